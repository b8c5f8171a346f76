"""Who holds what: schedulers and processes put together."""

from hypothesis import given
from hypothesis import strategies as st

from agent.holders.contract import Answer, Claimant
from agent.holders.owners import OwnerRule
from agent.tick import Hold, Process
from tests.agent.holders.worlds import (
    ARRAY,
    GPU,
    GPUS,
    JOB,
    OTHER,
    POD,
    POD_2,
    Canned,
    Host,
    holders,
    piece,
    process,
    read,
    seen,
)


def told(holds: tuple[Hold, ...]) -> list[tuple[str, str, float | None]]:
    """Give name, owner and share of the holders of a GPU."""
    return [(hold.holder.name, hold.holder.owner, hold.share) for hold in holds]


def test_a_job_that_runs_nothing_holds_its_gpu() -> None:
    """Whoever was given a GPU holds it, with all that its world tells."""
    found = holders(Answer(given={"GPU-1": (JOB,)})).holds([read(), read(gpu=OTHER)], GPUS)
    assert set(found) == {"GPU-1"}
    (hold,) = found["GPU-1"]
    one = hold.holder
    assert (one.kind, one.name, one.owner, one.user) == ("slurm", "4711", "vision", "ada")
    assert (one.account, one.partition, one.qos) == ("vision", "gpu", "normal")


def test_a_process_of_the_job_adds_nothing_but_its_share() -> None:
    """The job and its process are one holder."""
    answer = Answer(given={"GPU-1": (JOB,)}, named={"slurm:4711": JOB})
    crowd = {7: seen("ada", job="4711"), 8: seen("ada", job="4711")}
    found = holders(answer, host=crowd).holds([read(process(7, 0.5), process(8, 0.25))], GPUS)
    assert told(found["GPU-1"]) == [("4711", "vision", 0.75)]


def test_somebody_else_on_the_gpu_of_a_job_is_a_holder_of_his_own() -> None:
    """A process from outside the job shares the GPU with it."""
    answer = Answer(given={"GPU-1": (JOB,)}, named={"slurm:4711": JOB})
    crowd = {7: seen("ada", job="4711"), 9: seen("eve", "python mine.py")}
    found = holders(answer, host=crowd).holds([read(process(7, 0.6), process(9, 0.2))], GPUS)
    assert told(found["GPU-1"]) == [("4711", "vision", 0.6), ("python mine.py", "eve", 0.2)]


def test_time_sliced_pods_share_by_what_their_processes_did() -> None:
    """Two pods on one GPU do not both have all of it."""
    answer = Answer(given={"GPU-1": (POD, POD_2)}, named={"pod:u1": POD, "pod:u2": POD_2})
    crowd = {7: seen("root", pod="u1"), 9: seen("root", pod="u2")}
    found = holders(answer, host=crowd).holds([read(process(7, 0.3), process(9, 0.1))], GPUS)
    assert told(found["GPU-1"]) == [("lab/notebook-0", "lab", 0.3), ("web/chat-7f", "web", 0.1)]


def test_shares_are_not_known_where_nothing_was_sampled() -> None:
    """Without samples, or with none that worked, no share is told: the parts are then equal."""
    answer = Answer(given={"GPU-1": (POD, POD_2)})
    for samples in (None, 0.0):
        found = holders(answer, host={7: seen("x", pod="u9")}).holds([read(process(7, samples))], GPUS)
        assert {hold.share for hold in found["GPU-1"]} == {None}


def test_a_process_in_an_unnamed_pod_is_of_the_only_pod_that_was_given_the_gpu() -> None:
    """Older kubelets do not tell UIDs; with two pods it is a pod that nobody can name."""
    crowd = {7: seen("root", pod="u1")}
    alone = holders(Answer(given={"GPU-1": (POD,)}), host=crowd).holds([read(process(7, 0.4))], GPUS)
    assert told(alone["GPU-1"]) == [("lab/notebook-0", "lab", 0.4)]
    two = holders(Answer(given={"GPU-1": (POD, POD_2)}), host=crowd).holds([read(process(7, 0.4))], GPUS)
    assert told(two["GPU-1"])[2] == ("u1", "unattributed:kubernetes", 0.4)


def test_a_hidden_process_is_of_the_only_holder_that_was_given_the_gpu() -> None:
    """What cannot be looked at belongs to whoever was given the GPU; else to nobody that can be named."""
    given = holders(Answer(given={"GPU-1": (JOB,)}), host={7: None}).holds([read(process(7, 0.4))], GPUS)
    assert told(given["GPU-1"]) == [("4711", "vision", 0.4)]
    for host in ({7: None}, {}):
        found = holders(host=host).holds([read(process(7, 0.4))], GPUS)
        assert told(found["GPU-1"]) == [("process that is gone or hidden", "unattributed", 0.4)]


def test_a_job_that_no_world_names_is_not_put_on_its_users_account() -> None:
    """The number is known from the path; who answers for it is unknown, with the reason."""
    found = holders(host={7: seen("ada", job="4711")}).holds([read(process(7))], GPUS)
    assert told(found["GPU-1"]) == [("4711", "unattributed:slurm", None)]


def test_two_users_of_one_command_are_two_holders() -> None:
    """One user's processes of the same command are one."""
    crowd = {7: seen("ada"), 8: seen("ada"), 9: seen("bob")}
    found = holders(host=crowd).holds([read(process(7), process(8), process(9))], GPUS)
    assert told(found["GPU-1"]) == [("python train.py", "ada", None), ("python train.py", "bob", None)]


def test_a_slice_belongs_to_its_holder() -> None:
    """Slices are given one by one, and processes say on which they are."""
    slices = (piece("MIG-a"), piece("MIG-b"))
    answer = Answer(given={"MIG-a": (JOB,), "MIG-b": (ARRAY,)}, named={"slurm:4711": JOB})
    crowd = {7: seen("ada", job="4711")}
    found = holders(answer, host=crowd).holds([read(process(7, 0.4, "MIG-a"), slices=slices)], GPUS)
    assert [(hold.holder.name, hold.slice, hold.share) for hold in found["GPU-1"]] == [
        ("4711", "MIG-a", 0.4),
        ("4712_3", "MIG-b", None),
    ]


def test_memory_is_that_of_the_holders_processes() -> None:
    """The sum of its processes; not known without any."""
    answer = Answer(given={"GPU-1": (JOB, ARRAY)}, named={"slurm:4711": JOB})
    crowd = {7: seen("ada", job="4711"), 8: seen("ada", job="4711")}
    reading = read(process(7, memory_bytes=5), process(8, memory_bytes=6))
    found = holders(answer, host=crowd).holds([reading], GPUS)
    assert [hold.memory_used_bytes for hold in found["GPU-1"]] == [11, None]


def test_a_display_server_holds_no_gpu() -> None:
    """A process that only draws sits on every GPU of a host with a screen; MPS clients are at work."""
    draws, client = (
        Process(pid=100, kind="graphics", memory_used_bytes=4 * 2**20),
        Process(pid=200, kind="mps"),
    )
    one = holders(host={200: seen("alice"), 100: seen("root", "Xorg")})
    assert one.holds([read(draws)], GPUS) == {}
    assert told(one.holds([read(draws, client)], GPUS)["GPU-1"]) == [("python train.py", "alice", None)]


def test_worlds_are_asked_about_what_is_there() -> None:
    """GPUs, slices, and the keys of the processes on them."""
    world = Canned()
    one = holders(host={7: seen("ada", job="4711"), 8: seen("x", pod="u1", container="c" * 64)})
    one._sources = [world]
    one.holds([read(process(7), process(8), slices=(piece("MIG-a"),))], GPUS)
    (question,) = world.questions
    assert question.gpus == (GPU,)
    assert [(cut.uuid, cut.gpu, cut.profile) for cut in question.slices] == [("MIG-a", "GPU-1", "3g.71gb")]
    assert question.keys == {"slurm:4711", "pod:u1", f"container:{'c' * 64}"}
    one.close()
    assert world.closed


def test_what_schedulers_say_of_the_node_is_kept() -> None:
    """Drained is told with the reason, and trouble by world."""
    one = holders(Answer(drained="maintenance of the cooling"), Answer(trouble="no answer"))
    one.holds([read()], GPUS)
    assert one.drained == "maintenance of the cooling"
    assert one.troubles == {"world-0": "", "world-1": "no answer"}


def test_labels_that_change_change_the_owner() -> None:
    """What was decided of a claimant holds only while nothing of it changes."""
    rules = (OwnerRule(owner_label="team"),)
    world = Canned(Answer(given={"GPU-1": (POD,)}))
    one = holders(rules=rules)
    one._sources = [world]
    assert told(one.holds([read()], GPUS)["GPU-1"]) == [("lab/notebook-0", "vision", None)]
    moved = Claimant(kind="pod", name="lab/notebook-0", namespace="lab", labels={"team": "speech"})
    world.told = Answer(given={"GPU-1": (moved,)})
    assert told(one.holds([read()], GPUS)["GPU-1"]) == [("lab/notebook-0", "speech", None)]


_claimants = st.sampled_from([JOB, ARRAY, POD, POD_2])
_places = st.sampled_from(
    [{}, {"job": "4711"}, {"job": "99"}, {"pod": "u1"}, {"container": "a" * 64}, {"unit": "x.service"}]
)
_wheres = st.sampled_from(["", "MIG-a", "MIG-b"])


@given(
    given_whole=st.lists(_claimants, max_size=3, unique=True),
    given_piece=st.lists(_claimants, max_size=2, unique=True),
    crowd=st.dictionaries(
        st.integers(1, 9), st.none() | st.tuples(st.sampled_from("ab"), _places), max_size=6
    ),
    shares=st.lists(st.tuples(st.integers(1, 9), st.none() | st.floats(0, 1), _wheres), max_size=9),
)
def test_nobody_holds_twice_and_every_process_counts_once(
    given_whole: list[Claimant],
    given_piece: list[Claimant],
    crowd: dict[int, tuple[str, dict[str, str]] | None],
    shares: list[tuple[int, float | None, str]],
) -> None:
    """For any mix, each holder stands once for each slice, and shares sum to those of the processes."""
    answer = Answer(
        given={"GPU-1": tuple(given_whole), "MIG-a": tuple(given_piece)},
        named={"slurm:4711": JOB, "pod:u1": POD},
    )
    host = {pid: one and seen(one[0], **one[1]) for pid, one in crowd.items()}
    reading = read(*(process(*row) for row in shares), slices=(piece("MIG-a"), piece("MIG-b")))
    found = holders(answer, host=host).holds([reading], GPUS).get("GPU-1", ())
    assert len({(hold.holder, hold.slice) for hold in found}) == len(found)
    for where in ("", "MIG-a", "MIG-b"):
        sampled = sum(share or 0.0 for _, share, on in shares if on == where)
        had = sum(hold.share or 0.0 for hold in found if hold.slice == where)
        assert abs(sampled - had) < 1e-9


def test_a_host_that_knows_nothing_is_no_error() -> None:
    """Pids that are not known yet are held by nobody that can be named."""
    assert Host().resolve([1]) == {}
    assert told(holders().holds([read(process(1))], GPUS)["GPU-1"])[0][1] == "unattributed"
