"""score: every review below a prefix, scored by one pinned version.

check -> pin version -> list shards -> score each -> publish the manifest
"""

import time

from flows.form_flow import form_flow
from flows.parameters import ScoreParams
from tasks.core.errors import DataError
from tasks.preflight import check_services
from tasks.registration import pin_version
from tasks.scoring import (
    MANIFEST,
    Columns,
    ScoreManifest,
    list_shards,
    publish_manifest,
    score_shard,
)

_DEFAULTS = ScoreParams()


@form_flow(ScoreParams, name="score")
def score(params: ScoreParams = _DEFAULTS) -> ScoreManifest:
    """Score every review below a prefix with a pinned model version; one output object for each input object."""
    started = time.time()
    check_services(params.engine.device, also_write_to=params.output)
    version = pin_version(params.model_name, params.model_version)
    columns = Columns(text=params.text_column, id=params.id_column)
    shards = list_shards(params.input, params.output)
    scored = [
        result for shard in shards for result in score_shard(shard, version, columns, params.engine)
    ]
    manifest = publish_manifest(scored, version, params.output, started)
    failed = [s for s in scored if s.error]
    if failed:
        raise DataError(
            f"{len(failed)} of {len(scored)} objects were not scored; the first: {failed[0].error}",
            f"{params.output.rstrip('/')}/{MANIFEST}",
            "mend or remove them and run again; the others are scored",
        )
    return manifest
