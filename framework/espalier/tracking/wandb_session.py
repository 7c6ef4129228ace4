"""Open and close a run in W&B's library: online with its key, or as a folder that `wandb sync` sends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.storage.regular_file import open_regular
from espalier.tracking.tracker import TrackedRun
from espalier.tracking.wandb_settings import WandbConfig

if TYPE_CHECKING:
    import wandb

_CONNECT_SECONDS = 60.0  # of init and of finish: the longest that W&B may keep the caller's thread
_LOG_BYTES = 2**20  # of the end of the library's log
_GAVE_UP = b"filestream: fatal error"  # wandb 0.31 says so nowhere else; the tests hold it to that


def has_key() -> bool:
    """Whether W&B finds credentials (environment, settings file, netrc), without a prompt or the network."""
    import wandb
    from wandb.errors import AuthenticationError

    wandb.setup(settings=wandb.Settings(silent=True))
    try:
        return wandb.login(prompt=False, verify=False)
    except AuthenticationError:  # what is there does not look like a key
        return False


def find_key(url: str) -> tuple[bool, str | None]:
    """Whether W&B finds credentials, and the key among them."""
    from wandb.sdk.lib import wbauth  # private (wandb 0.31)

    if not has_key():
        return False, None
    found = wbauth.session_credentials(host=url)
    return True, found.api_key if isinstance(found, wbauth.AuthApiKey) else None


def is_offline(settings: WandbConfig, asked: str) -> bool:
    """Whether a run is only written, by the job or by the mode that WANDB_MODE asks for."""
    return settings.mode == "offline" or (settings.mode == "auto" and asked in ("offline", "dryrun"))


def mode_and_url() -> tuple[str, str]:
    """The mode that WANDB_MODE sets, and the URL of the server."""
    import wandb

    settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
    return settings.mode, settings.base_url


def begin(
    run: TrackedRun, settings: WandbConfig, *, online: bool, key: str | None, on_stop: Callable[[], None]
) -> wandb.Run:
    """Start the run, or go on with it where the server has it.

    An offline run is always written from its first step, so the folders of earlier starts are superseded and removed.
    It does not ask to be resumed, as `wandb sync` would then append all of it to what the server has.

    Args:
        on_stop: called in a thread of the library's when somebody presses "Stop run".

    Raises:
        Exception: of any kind, when the server does not take the run within a minute.
    """
    import wandb

    for old in (run.folder / "wandb").glob(f"offline-run-*-{run.id}"):
        shutil.rmtree(old, ignore_errors=True)
    return wandb.init(
        project=settings.project,
        entity=settings.entity,
        id=run.id,
        name=run.name,
        resume="allow" if online else None,
        config=dict(run.job),
        settings=library_settings(run, online=online, key=key if online else None, on_stop=on_stop),
    )


def forget_run() -> None:
    """Shut down W&B's service process: after a failed start it refuses a second run with the same id."""
    import wandb

    wandb.teardown()


def end(run: wandb.Run) -> bool:
    """Finish the run; False when the server has not got all of it."""
    try:
        run.finish()
    except TimeoutError:
        return False
    return run.offline or not _has_given_up(Path(run.settings.log_internal))


def library_settings(run: TrackedRun, *, online: bool, key: str | None, on_stop: Callable[[], None]) -> wandb.Settings:
    """Settings that keep W&B from uploading console output, code, git state, command line or machine information."""
    import wandb

    return wandb.Settings(
        mode="online" if online else "offline",
        api_key=key,
        root_dir=str(run.folder),
        reinit="create_new",
        silent=True,
        quiet=True,
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        host="unnamed",  # left out, it is the name of this machine
        init_timeout=_CONNECT_SECONDS,
        finish_timeout=_CONNECT_SECONDS,
        finish_timeout_raises=True,
        stop_fn=on_stop,
    )


def _has_given_up(log: Path) -> bool:
    """Whether the library has stopped sending, as it does for good when the server refuses its key in the run."""
    try:
        with open_regular(log) as file:
            file.seek(max(0, log.stat().st_size - _LOG_BYTES))
            return _GAVE_UP in file.read(_LOG_BYTES)
    except OSError:
        return False
