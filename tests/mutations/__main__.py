"""`python -m tests.mutations tests/mutations/walk.toml [--random 40 --seed 1] [--only 3,7]`

Each mutation is applied to a copy of the tree in a new folder, the chosen tests run there, and the copy is put right
again. A mutation whose tests stay green has survived: a test is missing, or the change makes no difference.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.mutations.generate import random_mutations
from tests.mutations.runner import Mutation, Tree, read_plan


def main() -> int:
    """Run the mutations of a plan; return 1 if one survived that is not called equivalent."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("plan", type=Path, help="a TOML file: tests, and mutations of files")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="add N drawn mutations of the plan's files")
    parser.add_argument("--seed", type=int, default=1, help="what they are drawn by, and hypothesis in the tests")
    parser.add_argument("--only", default="", metavar="N,N", help="run these numbers of the list only")
    options = parser.parse_args()

    root = Path(__file__).parents[2]
    plan = read_plan(options.plan)
    mutations = [*plan.mutations, *random_mutations(root, plan.files, options.random, options.seed)]
    chosen = {int(number) for number in options.only.split(",") if number}
    with tempfile.TemporaryDirectory(prefix="gorax-mutations-") as folder:
        tree = Tree(root, Path(folder), options.seed)
        red = tree.failing(plan.tests)
        if red is not None:
            print(f"The tests fail without any mutation:\n{red}", file=sys.stderr)
            return 2
        survivors: list[Mutation] = []
        count = 0
        for number, mutation in enumerate(mutations, 1):
            if chosen and number not in chosen:
                continue
            count += 1
            killer = tree.killer(mutation, plan.tests)
            if killer is None:
                survivors.append(mutation)
            verdict = "SURVIVED" if killer is None else f"killed by {killer}"
            print(f"{number:3} {mutation.place(root)}: {mutation.name}\n    {verdict}", flush=True)
    unexplained = [mutation for mutation in survivors if not mutation.equivalent]
    for mutation in survivors:
        print(f"survived: {mutation.place(root)}: {mutation.name}")
        if mutation.equivalent:
            print(f"    equivalent: {mutation.equivalent}")
    print(f"killed {count - len(survivors)} of {count}; {len(survivors) - len(unexplained)} survivors are equivalent")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
