"""The composition root: opens a store and its keys, and wires the parts into one object.

from limner import Limner

app = Limner.open("sqlite:///shop.db", domain="ecommerce")
app.record([{"user_id": "u1", "item_id": "tea", "event_type": "purchase", "timestamp": now}])
app.portrait("u1").interests
app.recommend("u1", n=10, explain=True)

`limner` holds the object, `intake` what comes in, `removal` what is taken out again, `rebuilding`
how portraits are made anew, `learning` how models are trained, `updating` how they go on learning,
`versions` which one is in use, `encoding` how items' content becomes vectors, `jobs` what is done
at times, `people` groups of users.
"""

from limner.app.intake import Imported
from limner.app.jobs import Jobs, Run
from limner.app.learning import Trained
from limner.app.limner import SNAPSHOT_EVERY, Limner, quiet
from limner.app.people import Audience, Standing
from limner.app.rebuilding import Replayed
from limner.app.removal import Erased, Expired
from limner.app.updating import Updated
from limner.app.versions import Models, ModelVersion

__all__ = [
    "SNAPSHOT_EVERY",
    "Audience",
    "Erased",
    "Expired",
    "Imported",
    "Jobs",
    "Limner",
    "ModelVersion",
    "Models",
    "Replayed",
    "Run",
    "Standing",
    "Trained",
    "Updated",
    "quiet",
]
