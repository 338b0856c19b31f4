"""`/posts` in the shape of JSONPlaceholder (json-server), so that a source can read either one unchanged.

It differs in one thing: a `_page` or `_limit` that makes no sense is refused with 400 instead of being guessed at.
"""

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.datastructures import URL

from mock_server.answers import REFUSALS, tagged
from mock_server.data_files import POSTS_FILE, read_records
from mock_server.parameters import PostLimit, PostPage

PAGE_SIZE = 10
"""json-server's page size where `_limit` is not given."""


class PostList:
    """The posts in the order of their ids 1…n, each kept encoded."""

    def __init__(self, records: Sequence[bytes]) -> None:
        self._records = tuple(records)

    @classmethod
    def load(cls, path: Path = POSTS_FILE) -> "PostList":
        """Read the file (blocks). Raises DataFileError."""
        return cls(read_records(path))

    def __len__(self) -> int:
        return len(self._records)

    def slice(self, start: int, limit: int) -> bytes:
        """A JSON array of at most `limit` posts, starting with the one at `start` (from 0)."""
        return b"[%b]" % b",".join(self._records[start : start + limit])

    def get(self, number: int) -> bytes | None:
        """The post with this id, or None."""
        return self._records[number - 1] if 1 <= number <= len(self._records) else None


def posts_router(posts: PostList) -> APIRouter:
    """The two routes over `posts`."""
    router = APIRouter(tags=["posts"], responses=REFUSALS)

    @router.get("/posts")
    async def list_posts(request: Request, page: PostPage = None, limit: PostLimit = None) -> Response:
        """All posts, or one page of them with the total in X-Total-Count and the other pages in Link."""
        headers = {"X-Total-Count": str(len(posts))}
        if page is None:
            return tagged(request, posts.slice(0, len(posts) if limit is None else limit), headers)
        size = PAGE_SIZE if limit is None else limit
        headers["Link"] = _links(request.url, page, -(-len(posts) // size))
        return tagged(request, posts.slice((page - 1) * size, size), headers)

    @router.get("/posts/{post_id}")
    async def get_post(request: Request, post_id: str) -> Response:
        """One post; as with JSONPlaceholder, an unknown one is 404 with an empty object."""
        known = post_id.isascii() and post_id.isdecimal() and len(post_id) <= len(str(len(posts)))
        post = posts.get(int(post_id)) if known else None
        if post is None:
            return Response(b"{}", status_code=404, media_type="application/json")
        return tagged(request, post)

    return router


def _links(url: URL, page: int, pages: int) -> str:
    targets = {"first": 1, "prev": page - 1, "next": page + 1, "last": pages}
    return ", ".join(
        f'<{url.include_query_params(_page=number)}>; rel="{relation}"'
        for relation, number in targets.items()
        if 1 <= number <= pages
    )
