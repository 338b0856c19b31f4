"""`/posts` in the shape of JSONPlaceholder (json-server), so that a source can read either one unchanged.

It differs in one thing: a `_page` or `_limit` that makes no sense is refused with 400 instead of being guessed at.
"""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from starlette.datastructures import URL

from mock_server.answers import REFUSALS, tagged
from mock_server.parameters import PostLimit, PostPage

PAGE_SIZE = 10
"""json-server's page size where `_limit` is not given."""


def posts_router(posts: Sequence[bytes]) -> APIRouter:
    """The two routes over encoded posts with the ids 1…n, in their order."""
    router = APIRouter(tags=["posts"], responses=REFUSALS)

    @router.get("/posts")
    async def list_posts(request: Request, page: PostPage = None, limit: PostLimit = None) -> Response:
        """All posts, or one page of them with the total in X-Total-Count and the other pages in Link."""
        headers = {"X-Total-Count": str(len(posts))}
        if page is None:
            return tagged(request, _array(posts[:limit]), headers)
        size = PAGE_SIZE if limit is None else limit
        headers["Link"] = _links(request.url, page, -(-len(posts) // size))
        start = (page - 1) * size
        return tagged(request, _array(posts[start : start + size]), headers)

    @router.get("/posts/{post_id}")
    async def get_post(request: Request, post_id: str) -> Response:
        """One post; as with JSONPlaceholder, an unknown one is 404 with an empty object."""
        known = post_id.isascii() and post_id.isdecimal() and len(post_id) <= len(str(len(posts)))
        if known and 1 <= int(post_id) <= len(posts):
            return tagged(request, posts[int(post_id) - 1])
        return Response(b"{}", status_code=404, media_type="application/json")

    return router


def _array(posts: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(posts)


def _links(url: URL, page: int, pages: int) -> str:
    targets = {"first": 1, "prev": page - 1, "next": page + 1, "last": pages}
    return ", ".join(
        f'<{url.include_query_params(_page=number)}>; rel="{relation}"'
        for relation, number in targets.items()
        if 1 <= number <= pages
    )
