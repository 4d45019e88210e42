"""`stillwatch schema`: the contract, for whoever writes or reads the topics."""

import click


@click.command()
@click.argument("part", type=click.Choice(["request", "verdict", "feedback", "asyncapi"]), default="asyncapi")
def schema(part: str) -> None:
    """Print the contract: the JSON Schema of a message, or the AsyncAPI document of all topics."""
    import json

    from gateway.schema import asyncapi, feedback_schema, request_schema, verdict_schema

    documents = {
        "request": request_schema,
        "verdict": verdict_schema,
        "feedback": feedback_schema,
        "asyncapi": asyncapi,
    }
    document = documents[part]()
    click.echo(json.dumps(document, indent=2))
