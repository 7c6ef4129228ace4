"""Whether W&B would take a run: looked up before the run starts, by a key that is there and is never shown."""

from __future__ import annotations

from espalier.jobs.tracker import TrackerAnswer
from espalier.tracking.reach import is_reachable
from espalier.tracking.wandb_session import find_key, is_offline, mode_and_url
from espalier.tracking.wandb_settings import WandbConfig

_ANSWER_SECONDS = 10.0
_QUESTION = "query Viewer { viewer { id } }"
_LATER = "the run is kept offline, and `espalier sync` sends it"


def look(settings: WandbConfig) -> TrackerAnswer:
    """See `TrackerKind.look`. Only `mode: online` demands that a server takes the key; W&B ends no other run."""
    if settings.mode == "off":
        return TrackerAnswer("off")
    asked, url = mode_and_url()
    if asked == "disabled":
        return TrackerAnswer("switched off by WANDB_MODE")
    if is_offline(settings, asked):
        return TrackerAnswer("offline; `espalier sync` sends the run")
    is_there, key = find_key(url)
    if not is_there:
        return _missing("no key is there", settings)
    if not is_reachable(url):
        return TrackerAnswer(f"{url} cannot be reached; {_LATER}", is_good=False)
    if key is None:
        return TrackerAnswer("credentials are there; they were not tried")
    taken = _is_taken(url, key)
    if taken is None:
        return TrackerAnswer(f"{url} does not say whether it takes the key; {_LATER} if not", is_good=False)
    return TrackerAnswer(f"{url} takes the key") if taken else _missing(f"{url} does not take the key (401)", settings)


def _missing(found: str, settings: WandbConfig) -> TrackerAnswer:
    if settings.mode != "online":
        return TrackerAnswer(f"{found}; {_LATER}", is_good=False)
    allowed = (
        f"a key that W&B takes, in WANDB_API_KEY or ~/.netrc of the machine that drives the run ({found}); or auto"
    )
    return TrackerAnswer(found, is_good=False, refused=allowed)


def _is_taken(url: str, key: str) -> bool | None:
    """Whether the server knows the key; None when it does not say."""
    import requests

    try:
        answer = requests.post(
            f"{url.rstrip('/')}/graphql",
            json={"query": _QUESTION},
            auth=("api", key),
            timeout=_ANSWER_SECONDS,
            allow_redirects=False,  # a redirect could lead the key elsewhere
        )
        if answer.status_code in (401, 403):
            return False
        data = answer.json()["data"]
        return data["viewer"] is not None if answer.status_code == 200 else None
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None
