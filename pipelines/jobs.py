"""The jobs, as Beam pipelines over bundles of shards: count -> measure -> decide -> write."""

from functools import partial
from typing import Any

import apache_beam as beam

from pipelines import (
    captions,
    count,
    decide,
    duplicates,
    extract,
    hosts,
    lookup,
    measure,
    near_groups,
    rank,
    write,
)
from pipelines.crawl import ExtractRun
from pipelines.exchange import Run, Stage
from pipelines.statistics import of_each
from pipelines.transforms import AddUp, Do
from recaption.manifest import read_manifest

READ = Stage("Read", of_each(count.read_shard), sends=("pairs", "ngrams"))
COUNT_PAIRS = Stage("CountPairs", count.merge_pairs, "pairs", ("texts", "images"))
COUNT_TEXTS = Stage("CountTexts", partial(count.merge_counts, "texts"), "texts")
COUNT_IMAGES = Stage("CountImages", partial(count.merge_counts, "images"), "images")
MERGE_RANKS = Stage("MergeRanks", rank.merge_ranks, "ranks")
WRITE_LOOKUPS = Stage("WriteLookups", lookup.write_lookups)
MEASURE = Stage("Measure", of_each(measure.measure_shard), sends=("shared_texts", "shared_images"))
SEND_HASHES = Stage("SendHashes", of_each(duplicates.send_hashes_of_shard), sends=("hashes",))
MERGE_HASHES = Stage("MergeHashes", near_groups.merge_hashes, "hashes")
JOIN_HASHES = Stage("JoinHashes", near_groups.join_hashes)
SEND_BANDS = Stage("SendBands", near_groups.send_bands, sends=("bands",))
SORT_BANDS = Stage("SortBands", near_groups.sort_bands, "bands")
LINK = Stage("Link", near_groups.link_slice)
JOIN_GROUPS = Stage("JoinGroups", near_groups.join_groups)
GROUP = Stage("Group", of_each(duplicates.group_shard), sends=("copies",))
KEEP_BEST = Stage("KeepBest", duplicates.keep_best, "copies")
JOIN_KEPT = Stage("JoinKept", duplicates.join_kept)
SEND_CAPTIONS = Stage("SendCaptions", of_each(captions.send_captions), sends=("captions",))
MERGE_CAPTIONS = Stage("MergeCaptions", captions.merge_captions, "captions", ("merged",))
WRITE_CAPTIONS = Stage("WriteCaptions", captions.write_captions, "merged")
DECIDE = Stage("Decide", of_each(decide.decide_shard), sends=("subset", "hosts"))
MERGE_HOSTS = Stage("MergeHosts", hosts.merge_hosts, "hosts")
MERGE_SUBSET = Stage("MergeSubset", decide.merge_subset, "subset")
MATERIALISE = Stage("Materialise", of_each(write.write_shard))
EXTRACT = Stage("Extract", extract.extract_part, sends=("pairs",))
MERGE_EXTRACTED = Stage("MergeExtracted", extract.merge_pairs, "pairs")


def filter_corpus(bundles: beam.PCollection, run: Run) -> beam.PCollection:
    """Filter a corpus: from its bundles to the manifest's path."""
    read = bundles | Do(run, READ)
    counted = count_corpus(read, run)
    measured = bundles | Do(run, MEASURE, counted["lookups"])
    tables = [
        measured["shared_texts"] | RankNames(run, "texts", "shared_texts"),
        measured["shared_images"] | RankNames(run, "images", "shared_images"),
    ]
    facts = [read["results"], *counted["facts"], *(table["facts"] for table in tables)]
    return decide_corpus(bundles, run, facts, measured["results"])


def count_corpus(read: dict[str, beam.PCollection], run: Run) -> dict[str, Any]:
    """Count images per text, texts per image, and n-grams; write the tables for the lookup."""
    pairs = read["pairs"] | Do(run, COUNT_PAIRS)
    texts = pairs["texts"] | Do(run, COUNT_TEXTS)
    images = pairs["images"] | Do(run, COUNT_IMAGES)
    ngrams = read["ngrams"] | RankNames(run, "ngrams", "ngrams")
    ranks = ngrams["ranks"] | Do(run, MERGE_RANKS)
    counts = (texts["results"], images["results"], ranks["results"])
    lookups = _once(read["results"]) | Do(run, WRITE_LOOKUPS, *counts)
    facts = [texts["results"], images["results"], ngrams["facts"]]
    return {"lookups": lookups["results"], "facts": facts}


def decide_corpus(
    bundles: beam.PCollection,
    run: Run,
    facts: list[beam.PCollection],
    *after: beam.PCollection,
    materialise: bool | None = None,
) -> beam.PCollection:
    """Judge measured columns, and write what follows from it.

    Args:
        bundles: The shards, in bundles.
        run: The run.
        facts: What is known of shards and tables, as results of stages.
        *after: Collections that must be complete before.
        materialise: Whether shards are written; None: as the recipe says.
    """
    if run.recipe.duplicate:
        copies = bundles | FindDuplicates(run, *after)
        facts, after = [*facts, *copies["facts"]], (copies["kept"],)
    decided = bundles | Do(run, DECIDE, *after)
    subset = decided["subset"] | Do(run, MERGE_SUBSET)
    facts = [*facts, (decided["hosts"] | Do(run, MERGE_HOSTS))["results"]]
    done, before = [subset["results"]], [decided["results"]]
    if run.recipe.duplicate and run.recipe.duplicate.merge_captions:
        merged = (bundles | Do(run, SEND_CAPTIONS, *after))["captions"] | Do(run, MERGE_CAPTIONS)
        written = merged["merged"] | Do(run, WRITE_CAPTIONS)
        facts.append(merged["results"])
        before.append(written["results"])
        done.append(written["results"])
    if run.recipe.materialise if materialise is None else materialise:
        done.append((bundles | Do(run, MATERIALISE, *before))["results"])
    return (
        [*facts, decided["results"]]
        | "AllFacts" >> beam.Flatten()
        | beam.Values()
        | "AddUp" >> beam.CombineGlobally(AddUp())
        | "Write" >> beam.Map(write.finish, run, *map(beam.pvalue.AsIter, done))
    )


def materialise_corpus(bundles: beam.PCollection, run: Run) -> beam.PCollection:
    """Write the pairs that stay as shards: from its bundles to the path of sizes.json."""
    written = (bundles | Do(run, MATERIALISE))["results"]
    return _once(written) | "Describe" >> beam.Map(
        lambda _, done: write.describe_shards(run, read_manifest(run.output), done),
        beam.pvalue.AsIter(written),
    )


def extract_corpus(parts: beam.PCollection, run: ExtractRun) -> beam.PCollection:
    """Extract the pairs of a crawl: from its parts to the manifest's path."""
    extracted = parts | Do(run, EXTRACT)
    merged = extracted["pairs"] | Do(run, MERGE_EXTRACTED)
    return (
        [extracted["results"], merged["results"]]
        | "AllFacts" >> beam.Flatten()
        | beam.Values()
        | "AddUp" >> beam.CombineGlobally(AddUp())
        | "Write" >> beam.Map(extract.finish, run)
    )


class FindDuplicates(beam.PTransform):
    """Group the rows that all other rules keep, and choose the pair that stays of each group.

    Returns a dictionary: `facts`, and `kept`, which is complete when the groups can be looked up.
    """

    def __init__(self, run: Run, *after: beam.PCollection) -> None:
        super().__init__(label="FindDuplicates")
        self._run, self._after = run, after

    def expand(self, bundles: beam.PCollection) -> Any:
        """Build the stages."""
        run, after, facts = self._run, self._after, []
        rule = near_groups.rule_of(run)
        if rule.near and rule.max_distance:
            hashes = (bundles | Do(run, SEND_HASHES, *after))["hashes"] | Do(run, MERGE_HASHES)
            facts.append(hashes["results"])
            after = (self._link(hashes["results"]),)
        grouped = bundles | Do(run, GROUP, *after)
        best = grouped["copies"] | Do(run, KEEP_BEST)
        kept = _once(bundles) | Do(run, JOIN_KEPT, best["results"])
        return {"facts": [*facts, grouped["results"], best["results"]], "kept": kept["results"]}

    def _link(self, hashes: beam.PCollection) -> beam.PCollection:
        """Build what groups near hashes."""
        run = self._run
        every = hashes.pipeline | "EveryPart" >> beam.Create(range(run.partitions))
        one = hashes.pipeline | "One" >> beam.Create([0])
        joined = (one | Do(run, JOIN_HASHES, hashes))["results"]
        bands = (every | Do(run, SEND_BANDS, joined))["bands"] | Do(run, SORT_BANDS)
        linked = every | Do(run, LINK, bands["results"])
        return (one | Do(run, JOIN_GROUPS, linked["results"]))["results"]


class RankNames(beam.PTransform):
    """Merge the names of a channel, sort them by count over the whole corpus, write the table.

    Returns a dictionary: `facts`, and for n-grams `ranks`, the channel of their ranks.
    """

    def __init__(self, run: Run, table: str, channel: str) -> None:
        super().__init__(label=f"Rank{table.capitalize()}")
        self._run, self._table, self._channel = run, table, channel

    def expand(self, names: beam.PCollection) -> Any:
        """Build the stages."""
        run, table, label = self._run, self._table, self._table.capitalize()
        ranges = f"{table}_ranges"
        sends = ("ranks",) if table == "ngrams" else ()
        merge = Stage(f"Merge{label}", partial(rank.merge_names, table), self._channel)
        plan = Stage(f"Plan{label}", partial(rank.plan_ranges, table))
        split = Stage(f"Split{label}", partial(rank.split_names, table), sends=(ranges,))
        order = Stage(f"Sort{label}", partial(rank.rank_range, table), ranges, sends)
        merged = (names | Do(run, merge))["results"]
        planned = (_once(merged) | Do(run, plan, merged))["results"]
        every = merged.pipeline | "EveryPartition" >> beam.Create(range(run.partitions))
        ranked = (every | Do(run, split, planned))[ranges] | Do(run, order)
        facts = (merged, planned, ranked["results"]) | "Facts" >> beam.Flatten()
        return {"facts": facts} | {name: ranked[name] for name in sends}


def _once(beside: beam.PCollection) -> beam.PCollection:
    return beside.pipeline | "Once" >> beam.Create([0])
