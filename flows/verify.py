"""verify: prove from the object store alone that a scoring run is complete."""

from flows.forms.flow import form_flow
from flows.forms.scoring import VerifyParams
from tasks.core.errors import DataError
from tasks.scoring.verification import Proof, verify_run


@form_flow(VerifyParams, name="verify")
def verify(params: VerifyParams) -> Proof:
    """Check every output that a scoring run should have written; fail if one is missing or wrong."""
    proof = verify_run(params.run)
    if not proof.complete:
        wrong = proof.objects - proof.proven - proof.changed
        raise DataError(
            f"{wrong} of {proof.objects} objects are missing or wrong; the first: {proof.problems[0]}",
            params.run,
            "run score again; it skips what is already scored",
        )
    return proof
