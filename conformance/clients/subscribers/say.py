"""What every subscriber here tells the driver: see say.mjs."""

import json
import sys

URL, TOKEN = sys.argv[1], sys.argv[2]
CURSOR = sys.argv[3] if len(sys.argv) > 3 else ""


def say(**what):
    print(json.dumps(what), flush=True)


def say_event(event):
    say(id=event.id or "", type=event.event or "message", data=event.data)
