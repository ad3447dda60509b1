"""httpx-sse: gives ids, leaves reconnecting to the caller."""

import httpx
from httpx_sse import connect_sse
from say import CURSOR, TOKEN, URL, say, say_event

headers = {"Authorization": f"Bearer {TOKEN}"}
if CURSOR:
    headers["Last-Event-ID"] = CURSOR
try:
    http = httpx.Client(timeout=None, headers=headers)
    with http, connect_sse(http, "GET", URL) as source:
        source.response.raise_for_status()
        say(open=True)
        for event in source.iter_sse():
            say_event(event)
    say(end="clean")
except httpx.HTTPStatusError as error:
    say(end="status", detail=str(error.response.status_code))
except httpx.ConnectError as error:
    say(end="down", detail=str(error))
except httpx.HTTPError as error:
    say(end="broken", detail=f"{type(error).__name__}: {error}")
