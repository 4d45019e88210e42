"""curator (PyPI) asks a server for reasoning and answer, as JSON: `python run_curator.py QUESTIONS URL COUNT`.

For an environment of its own with `bespokelabs-curator` installed. QUESTIONS is a file of `{"prompt": ...}` lines,
gzip or not; COUNT questions are asked, from the beginning again when the list is through. curator keeps to 200 requests
and 100,000 tokens a minute by the machine's clock, so let libfaketime run its clock as fast as the server's.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from bespokelabs import curator
from pydantic import BaseModel


class Solved(BaseModel):
    reasoning: str
    answer: str


class Harvest(curator.LLM):
    response_format = Solved

    def prompt(self, row: dict[str, Any]) -> str:
        return str(row["question"])

    def parse(self, row: dict[str, Any], response: Solved) -> dict[str, Any]:
        return {"question": row["question"], "reasoning": response.reasoning, "answer": response.answer}


def main(questions: Path, url: str, count: int) -> None:
    opened = gzip.open if questions.suffix == ".gz" else open
    with opened(questions, "rt") as file:
        prompts = [json.loads(line)["prompt"] for line in file]
    rows = [{"question": prompts[n % len(prompts)]} for n in range(count)]
    llm = Harvest(model_name="large-2", backend="openai", backend_params={"base_url": url, "api_key": "tool"})
    llm(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
