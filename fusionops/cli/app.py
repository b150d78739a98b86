"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusionops.cli import options
from fusionops.cli.errors import sentences
from fusionops.cli.options import Json

app = typer.Typer(
    help="Fused user-item operators for PyTorch, and a recommender made of them.",
    epilog="FUSIONOPS_DEBUG=1 shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def quickstart(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the picture and the results.")
    ] = Path("quickstart"),
    as_json: Json = False,
) -> None:
    """Clean, split, fit, evaluate and recommend on the Online Retail data of the package."""
    with sentences():
        from fusionops.cli.quickstart import run

        run(out, as_json=as_json)


@app.command()
def encode(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Items, users or reviews: .parquet, .csv or .tsv."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the vectors, NAME.safetensors each.")
    ],
    text: Annotated[list[str] | None, options.models("text", "Texts")] = None,
    image: Annotated[list[str] | None, options.models("image", "Paths of pictures")] = None,
    audio: Annotated[list[str] | None, options.models("audio", "Paths of sound files")] = None,
    id_column: Annotated[
        str, typer.Option("--id-column", "--item-id-column", metavar="NAME", help="Ids.")
    ] = "item",
    join: Annotated[
        bool, typer.Option("--join", help="Join the texts of rows of one id, as of reviews.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="The most things in a batch.")] = 64,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda. Default: a GPU where there is one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn texts, pictures and sounds into vectors, once each, by pretrained models.

    What is in DIR already is used again where neither the content nor the model has changed, and a
    run that was stopped goes on where it was.
    """
    with sentences():
        from fusionops.cli.encode import run

        run(
            file,
            out,
            {"text": text or (), "image": image or (), "audio": audio or ()},
            id_column=id_column,
            join=join,
            batch_size=batch,
            device=device,
            as_json=as_json,
        )


@app.command()
def fit(
    context: typer.Context,
    interactions: options.InteractionsFile,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the model is saved.")],
    items: options.ItemsFile = None,
    features: options.FeaturesFolder = None,
    user_column: options.UserColumn = "user",
    item_column: options.ItemColumn = "item",
    time_column: options.TimeColumn = None,
    session_column: options.SessionColumn = None,
    event_column: options.EventColumn = None,
    event_weight: options.EventWeights = None,
    weight_column: options.WeightColumn = None,
    item_id_column: options.ItemIdColumn = None,
    text: options.TextColumns = None,
    numeric: options.NumericColumns = None,
    categorical: options.CategoryColumns = None,
    model: Annotated[
        str, typer.Option(help="LinearFusion, in seconds, or FusionRecommender, trained.")
    ] = "LinearFusion",
    set_parameter: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the model; repeat."),
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="One of transformers' TrainingArguments; repeat."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A LinearFusion whose scores training begins at."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit a recommender on your files and save it in a folder."""
    with sentences():
        from fusionops.cli.fit import Wanted, run
        from fusionops.cli.inputs import columns_of

        run(
            interactions,
            items,
            features,
            out,
            *columns_of(context.params),
            Wanted(
                model,
                options.parameters(set_parameter or ()),
                options.parameters(train or (), "--train"),
                start,
            ),
            as_json=as_json,
        )


@app.command()
def evaluate(
    context: typer.Context,
    interactions: options.InteractionsFile,
    items: options.ItemsFile = None,
    features: options.FeaturesFolder = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="warm (default), next_visit, cold or one_list; repeat for several."),
    ] = None,
    date: Annotated[
        list[str] | None,
        typer.Option(metavar="DAY", help="The cut of cold and one_list; repeat for several."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only these models; repeat. Default: those of the protocol."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists.")] = 20,
    user_column: options.UserColumn = "user",
    item_column: options.ItemColumn = "item",
    time_column: options.TimeColumn = None,
    session_column: options.SessionColumn = None,
    event_column: options.EventColumn = None,
    event_weight: options.EventWeights = None,
    weight_column: options.WeightColumn = None,
    item_id_column: options.ItemIdColumn = None,
    text: options.TextColumns = None,
    numeric: options.NumericColumns = None,
    categorical: options.CategoryColumns = None,
    as_json: Json = False,
) -> None:
    """Evaluate LinearFusion and baselines on your files: full ranking, paired intervals."""
    with sentences():
        from fusionops.cli.evaluate import run
        from fusionops.cli.inputs import columns_of

        run(
            interactions,
            items,
            features,
            *columns_of(context.params),
            protocol_names=protocol or ["warm"],
            dates=date or [],
            models=model or [],
            k=k,
            as_json=as_json,
        )


@app.command()
def recommend(
    folder: options.ModelFolder,
    user: options.Users = None,
    history: options.History = None,
    k: options.Length = 10,
    exclude: options.Exclude = None,
    candidate: options.Candidates = None,
    filter: options.Filters = None,
    recency: options.RecencyName = "auto",
    at: options.At = None,
    diversify: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Weight of variety; 0.3 is mild.")
    ] = 0.0,
    include_seen: options.IncludeSeen = False,
    as_json: Json = False,
) -> None:
    """Recommend items to users of a saved model, or to someone new by a history."""
    with sentences():
        from fusionops.cli.recommend import run
        from fusionops.cli.requests import Request

        request = Request(
            users=user or (),
            history=history or (),
            k=k,
            exclude=exclude or (),
            candidates=candidate or (),
            filters=filter or (),
            recency=recency,
            at=at,
            diversify=diversify,
            exclude_seen=not include_seen,
        )
        run(folder, request, as_json=as_json)


@app.command()
def explain(
    folder: options.ModelFolder,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Whose list it is.")] = None,
    history: options.History = None,
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="ITEM", help="What to explain; repeat. Default: the list."),
    ] = None,
    k: options.Length = 10,
    exclude: options.Exclude = None,
    candidate: options.Candidates = None,
    filter: options.Filters = None,
    recency: options.RecencyName = "auto",
    at: options.At = None,
    include_seen: options.IncludeSeen = False,
    method: Annotated[
        str, typer.Option(help="contributions or counterfactuals. Default: contributions if exact.")
    ] = "auto",
    largest: Annotated[
        int, typer.Option(min=1, help="Most items in the smallest set that drops an item.")
    ] = 5,
    most: Annotated[
        int, typer.Option(min=1, help="Items of the history in a table or a chart.")
    ] = 8,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for a bar chart of each item, ITEM.png."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why items are recommended: from which of the history, from what is known of them."""
    with sentences():
        from fusionops.cli.explain import Wanted, run
        from fusionops.cli.requests import Request

        request = Request(
            users=[] if user is None else [user],
            history=history or (),
            k=k,
            exclude=exclude or (),
            candidates=candidate or (),
            filters=filter or (),
            recency=recency,
            at=at,
            exclude_seen=not include_seen,
        )
        run(folder, request, Wanted(item or (), method, largest, most, chart), as_json=as_json)


@app.command()
def bench(
    suite: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPERATOR]...", help="Only these, as fusion_topk. Default: all."),
    ] = None,
    suites: Annotated[
        Path, typer.Option(metavar="DIR", help="The benchmarks folder of a source checkout.")
    ] = Path("benchmarks"),
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the report and its pictures.")
    ] = Path("performance"),
    device: Annotated[
        str, typer.Option(help="cpu, or cuda: the suites for a GPU, against PyTorch there.")
    ] = "cpu",
    short: Annotated[
        bool, typer.Option("--short", help="A smoke run: the smallest sizes, few rounds.")
    ] = False,
    growth: Annotated[
        bool, typer.Option(help="Also time against size, which takes longest.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Measure the operators and the Catalog against their peers and this machine's bounds."""
    with sentences():
        from fusionops.cli.bench import run

        run(
            suites,
            suite or [],
            out,
            device=device,
            short=short,
            growth=growth,
            as_json=as_json,
        )


@app.command()
def info(as_json: Json = False) -> None:
    """Describe this installation, to be pasted into a bug report."""
    with sentences():
        from fusionops.info import render, report

        if as_json:
            from fusionops.cli.console import print_json

            print_json(report())
        else:
            typer.echo(render(report()))
