"""verify: is a scoring run complete? Proven from the store alone."""

from flows.forms.flow import form_flow
from flows.forms.pipelines import VerifyParams
from tasks.core.errors import DataError
from tasks.scoring.verification import Proof, verify_run


@form_flow(VerifyParams, name="verify")
def verify(params: VerifyParams) -> Proof:
    """Look at every output that a scoring run should have written; fails when one is not as it should be."""
    proof = verify_run(params.run)
    if not proof.complete:
        wrong = proof.objects - proof.proven - proof.changed
        raise DataError(
            f"{wrong} of {proof.objects} objects are not as they should be; the first: {proof.problems[0]}",
            params.run,
            "run score again; what is there is not scored again",
        )
    return proof
