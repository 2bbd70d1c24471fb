"""The options that the harness and its scenarios read. A command fills them in before anything runs."""
import argparse
import os
import tempfile

OPT = argparse.Namespace(rounds=5, warmup=1, heat=60.0, scale=1.0, failover_s=25.0, recovery_gb=[1.0, 5.0], port=21000,
                         data=os.environ.get("BENCH_DATA") or tempfile.gettempdir(), nice=0)


def add(parser):
    """Adds the options that every command has."""
    parser.add_argument("--rounds", type=int, help=f"counted rounds of a scenario (default {OPT.rounds}; some have fewer)")
    parser.add_argument("--warmup", type=int, help=f"rounds before them (default {OPT.warmup})")
    parser.add_argument("--heat", type=float, metavar="S", help=f"after each start, load until it gets no faster, for at most so many seconds (default {OPT.heat:g})")
    parser.add_argument("--scale", type=float, help="times the bytes and seconds of a round")
    parser.add_argument("--failover-s", type=float, help="seconds of a failover round")
    parser.add_argument("--recovery-gb", type=lambda text: [float(x) for x in text.split(",")], metavar="GB,GB",
                        help="sizes of recovery-curve (default 1,5); each lies on the disk once")
    parser.add_argument("--port", type=int, help=f"A from here, B a thousand above (default {OPT.port})")
    parser.add_argument("--data", help="folder on the disk to use (default $BENCH_DATA or the temporary one)")
    parser.add_argument("--nice", type=int, help="priority of brokers and load; below 0 keeps other work off, as root")


def take(given):
    """Takes over what was given on the command line."""
    for name, value in vars(given).items():
        if value is not None and hasattr(OPT, name):
            setattr(OPT, name, value)
