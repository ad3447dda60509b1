"""sseclient-py over requests: a parser only, the token goes as Mercure's cookie."""

import requests
import sseclient
from say import CURSOR, TOKEN, URL, say, say_event

headers = {"Accept": "text/event-stream"}
if CURSOR:
    headers["Last-Event-ID"] = CURSOR
try:
    cookies = {"mercureAuthorization": TOKEN}
    answer = requests.get(URL, stream=True, headers=headers, cookies=cookies)
    answer.raise_for_status()
    say(open=True)
    for event in sseclient.SSEClient(answer).events():
        say_event(event)
    say(end="clean")
except requests.exceptions.HTTPError as error:
    say(end="status", detail=str(error.response.status_code))
except requests.exceptions.ChunkedEncodingError as error:
    say(end="broken", detail=type(error).__name__)
except requests.exceptions.ConnectionError as error:
    say(end="down", detail=type(error).__name__)
