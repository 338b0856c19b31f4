"""`python -m runtime.kafka.topics_file`: the registry of topics, as the Helm chart reads it."""

import json
import sys

from runtime.kafka.topic_admin import topic_config
from schemas.topics import all_topics


def topics_file() -> str:
    """The text of deploy/kubernetes/files/topics.yaml; `retention` is in TOPIC_RETENTION_HOURS. Pure."""
    lines = ["# Written by `python -m runtime.kafka.topics_file`; a test holds that it is current."]
    for topic in all_topics():
        about = {"name": topic.name, "retention": topic.retention, "config": topic_config(topic)}
        lines.append(f"- {json.dumps(about)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(topics_file())
