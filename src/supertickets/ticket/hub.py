"""Fetch tickets from the Hugging Face hub, and upload them."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError


def is_hub_name(source: str) -> bool:
    """Return whether the source of a ticket looks like a name on the hub: ``owner/name``."""
    return source.count("/") == 1 and not source.startswith((".", "/", "runs/"))


def fetch(name: str) -> Path:
    """Download a repository of the hub and return its folder.

    Raises:
        UserError: There is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, OSError, ValueError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"ticket {name} is neither a folder nor a repository that can be fetched ({why})") from None


def upload(folder: Path, repo_id: str, *, private: bool) -> None:
    """Upload a folder to a repository of the hub, which is made if there is none."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, exist_ok=True, private=private)
    api.upload_folder(repo_id=repo_id, folder_path=folder)
