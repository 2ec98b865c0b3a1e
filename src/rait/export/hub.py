"""Upload an export to the hub: only when asked, and private unless told otherwise.

push(Path("out"), "me/my-model", "model", public=False)
"""

from pathlib import Path
from typing import Any, Literal

from rait.errors import RaitError, first_line

Kind = Literal["model", "dataset"]


def check_login() -> None:
    """Raise `RaitError` where nobody is logged in to the hub, before any work is done for an upload."""
    _asked(lambda: _api().whoami(), "log in to the hub")


def push(folder: Path, repo: str, kind: Kind, *, public: bool, message: str) -> str:
    """Upload all files of `folder` to a repository, made if need be, and return its address.

    Raises `RaitError` where the hub refuses, or where the repository is public already and `public` was not said.
    """
    api = _api()
    made = _asked(lambda: api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True), f"make {repo}")
    found = _asked(lambda: api.repo_info(made.repo_id, repo_type=kind), f"look at {repo}")
    if not public and not found.private:
        raise RaitError(f"{repo} is public, so nothing was uploaded; add --public if that is meant, or name another")
    _asked(
        lambda: api.upload_folder(repo_id=made.repo_id, folder_path=folder, repo_type=kind, commit_message=message),
        f"upload to {repo}",
    )
    return str(made)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


def _asked(request: Any, what: str) -> Any:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    # What the hub's own error derives from: that of the HTTP library in use, for want of a network, and OSError.
    failures: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, HFValidationError, LocalTokenNotFoundError)
    try:
        return request()
    except failures as error:
        raise RaitError(
            f"cannot {what} ({first_line(error)}); check the name, the network and your token (`hf auth login`)"
        ) from error
