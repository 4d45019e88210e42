"""distilabel (PyPI) asks a server for answers to a list of questions: `python run_distilabel.py QUESTIONS URL COUNT`.

For an environment of its own with `distilabel[openai]` installed. QUESTIONS is a file of `{"prompt": ...}` lines,
gzip or not; COUNT questions are asked, each list entry again with another name when the list is through.
"""

import gzip
import json
import sys
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main(questions: Path, url: str, count: int) -> None:
    opened = gzip.open if questions.suffix == ".gz" else open
    with opened(questions, "rt") as file:
        prompts = [json.loads(line)["prompt"] for line in file]
    rows = [{"instruction": prompts[n % len(prompts)]} for n in range(count)]
    with Pipeline(name="harvest") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=50)
        llm = OpenAILLM(
            model="large-2", base_url=url, api_key="tool",
            generation_kwargs={"temperature": 0.7, "max_new_tokens": 2_048},
        )  # fmt: skip
        load >> TextGeneration(llm=llm, input_batch_size=50)
    pipeline.run(use_cache=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
