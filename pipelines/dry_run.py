"""Say what a run would do, and do nothing."""

from pipelines.plan import Plan


def describe(plan: Plan) -> str:
    """Say what a run would do."""
    kinds = sorted({shard.kind for shard in plan.shards})
    columns = sorted({f"{c} as {n}" for s in plan.shards for n, c in s.columns.items() if n != c})
    unknown = sum(shard.rows is None for shard in plan.shards)
    lines = [
        f"input     {plan.run.source}: {len(plan.shards):,} shards of {' and '.join(kinds)}, "
        f"{plan.rows:,} rows" + (f" and those of {unknown:,} tars without parquet" * bool(unknown)),
        f"columns   {', '.join(columns) or 'by their own names'}",
        f"recipe    {plan.run.recipe.name}, digest {plan.run.recipe.digest[:12]}",
    ]
    for rule in plan.run.recipe.rules:
        lacks = plan.lacks(rule)
        missing = f"   cannot run: {lacks}" if lacks else ""
        lines.append(f"  {rule.name:<16} {rule.threshold}{missing}")
    lines += [
        f"exchange  {plan.run.carrier}, {plan.run.partitions} partitions, "
        f"{plan.run.workers} processes",
        f"output    {plan.run.home}",
    ]
    return "\n".join(lines)
