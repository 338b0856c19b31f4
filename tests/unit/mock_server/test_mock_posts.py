"""`/posts` answers as JSONPlaceholder does."""

import httpx
import pytest


async def test_all_hundred_posts_come_without_parameters(client: httpx.AsyncClient) -> None:
    answer = await client.get("/posts")
    posts = answer.json()
    assert [post["id"] for post in posts] == list(range(1, 101))
    assert all(list(post) == ["userId", "id", "title", "body"] for post in posts)
    assert [post["userId"] for post in posts] == [1 + n // 10 for n in range(100)]
    assert answer.headers["x-total-count"] == "100"
    assert "link" not in answer.headers


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("_limit=5", range(1, 6)),
        ("_limit=1000", range(1, 101)),
        ("_page=2", range(11, 21)),
        ("_page=4&_limit=30", range(91, 101)),
        ("_page=5&_limit=30", range(0)),
    ],
)
async def test_page_and_limit_select_posts(client: httpx.AsyncClient, query: str, ids: range) -> None:
    answer = await client.get(f"/posts?{query}")
    assert [post["id"] for post in answer.json()] == list(ids)
    assert answer.headers["x-total-count"] == "100"


async def test_a_page_links_to_the_others(client: httpx.AsyncClient) -> None:
    async def relations(page: int) -> dict[str, str]:
        answer = await client.get("/posts", params={"_limit": 40, "_page": page})
        return {relation: link["url"] for relation, link in answer.links.items() if relation}

    def url(page: int) -> str:
        return f"http://mock/posts?_limit=40&_page={page}"

    assert await relations(1) == {"first": url(1), "next": url(2), "last": url(3)}
    assert await relations(3) == {"first": url(1), "prev": url(2), "last": url(3)}


@pytest.mark.parametrize("query", ["_page=0", "_page=x", "_limit=0", "_limit=1.5"])
async def test_a_page_or_limit_of_posts_that_makes_no_sense_is_refused_by_name(
    client: httpx.AsyncClient, query: str
) -> None:
    answer = await client.get(f"/posts?{query}")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(query.partition("=")[0])


async def test_one_post_is_the_one_of_the_list(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/posts")).json()[41]
    answer = await client.get("/posts/42")
    assert (answer.status_code, answer.json()) == (200, listed)


@pytest.mark.parametrize("post_id", ["0", "101", "abc", "-1", "1.0", "9" * 5000, "٣"])
async def test_an_unknown_post_is_404_with_an_empty_object(client: httpx.AsyncClient, post_id: str) -> None:
    answer = await client.get(f"/posts/{post_id}")
    assert (answer.status_code, answer.json()) == (404, {})


async def test_unchanged_posts_are_304(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/posts")).headers["etag"]
    assert (await client.get("/posts", headers={"If-None-Match": etag})).status_code == 304
