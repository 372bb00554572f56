"""Sending what was planned to the Hub, by huggingface_hub: private, and as a pull request, unless asked otherwise."""

from __future__ import annotations

from typing import Any

from expunge.errors import StorageError, UserError
from expunge.hub.plan import Push


def push(made: Push) -> str:
    """Upload; returns the address of the pull request, or of the commit.

    The token is huggingface_hub's own ($HF_TOKEN, or that of `hf auth login`).

    Raises:
        UserError: the repository is public, and that was not asked for.
        StorageError: the Hub did not take it; what it said.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    settings, api = made.settings, HfApi(library_name="expunge")
    try:
        api.create_repo(settings.repo, private=not settings.public, exist_ok=True)
        if not settings.public and not api.repo_info(settings.repo).private:
            raise UserError(f"{settings.repo} is there and public", accepted="a private repository",
                            remedy="--public if everybody may read it; nothing was uploaded")
        operations = [CommitOperationAdd(name, content) for name, content in sorted(made.texts.items())]
        operations += [CommitOperationAdd(name, str(file)) for name, file in sorted(made.files.items())]
        done: Any = api.create_commit(settings.repo, operations, create_pr=settings.pull_request,
                                      revision=settings.revision or None,
                                      commit_message=settings.message or f"expunge: {made.kind}, card and results")
    except UserError:
        raise
    except Exception as error:  # the Hub's client raises a dozen unrelated types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(f"the Hub did not take it: {reason}",
                           remedy="check the name, the network and the token (`hf auth whoami`)") from error
    return str(done.pr_url or done.commit_url)
