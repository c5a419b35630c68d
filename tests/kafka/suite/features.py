"""What every client is to do, one function each: called with a client and the broker's address, it raises what is
wrong. The docstring's first line is the row of the compatibility page."""

import re
import time
import uuid

import records
from clients import Client, Refused, Unsupported, decode

FEATURES = []


def feature(area):
    def add(function):
        FEATURES.append((area, function))
        return function

    return add


def name(what):
    return f"{what}-{uuid.uuid4().hex[:8]}"


def expect(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


def until(what, wait_s, check):
    """`check` returns something true in time, however often it has to be asked."""
    end = time.monotonic() + wait_s
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {wait_s} s")
        time.sleep(0.1)


def make(client, what, partitions=1, **configs):
    """A topic; by a helper client where this one makes none."""
    topic = name(what)
    configs = {key.replace("_", "."): value for key, value in configs.items()}
    request = {"topic": topic, "partitions": partitions, "configs": configs}
    try:
        client.ask("create", **request)
    except Unsupported:
        client.helper.ask("create", **request)
    return topic


def produce(client, topic, sent, partition=0, **options):
    expect("acknowledged", client.ask("produce", topic=topic, records=sent, partition=partition, **options), len(sent))


def read(client, topic, count, partition=0, start="earliest"):
    return client.ask("read", topic=topic, partition=partition, start=start, count=count)


def check_same(sent, found):
    wrong = records.same(sent, found)
    if wrong:
        raise AssertionError(wrong)


def suits(client, count, tag="r"):
    """Records of the kind this client can write."""
    return records.plain(count, tag) if client.name == "kcat" else records.many(count, tag)


@feature("admin")
def create_list_describe(client):
    """create, list and describe topics"""
    topic = name("made")
    client.ask("create", topic=topic, partitions=3, configs={"retention.ms": "3600000"})
    until("listed", 10, lambda: topic in client.ask("topics"))
    expect("described", client.ask("describe", topic=topic), {"partitions": 3})


@feature("admin")
def add_partitions(client):
    """add partitions"""
    topic = make(client, "grows")
    client.ask("add_partitions", topic=topic, total=4)
    until("grown", 10, lambda: client.ask("describe", topic=topic) == {"partitions": 4})


@feature("admin")
def delete(client):
    """delete topics"""
    topic = make(client, "goes")
    client.ask("delete", topic=topic)
    until("gone", 10, lambda: topic not in client.ask("topics"))


@feature("admin")
def configs(client):
    """describe and alter configs"""
    topic = make(client, "configured", retention_ms="7200000")
    found = client.ask("configs", topic=topic)
    expect("set", found["retention.ms"], "7200000")
    expect("default", found["cleanup.policy"], "delete")
    client.ask("alter_config", topic=topic, key="retention.ms", value="86400000")
    until("altered", 10, lambda: client.ask("configs", topic=topic)["retention.ms"] == "86400000")


@feature("admin")
def delete_records(client):
    """delete records"""
    topic = make(client, "shortened")
    produce(client, topic, suits(client, 20))
    client.ask("delete_records", topic=topic, partition=0, before=7)
    expect("start", client.ask("offset", topic=topic, partition=0, at="earliest"), 7)
    expect("first", read(client, topic, 1)[0]["offset"], 7)


@feature("admin")
def offsets(client):
    """offsets: earliest, latest, by timestamp"""
    topic = make(client, "placed")
    sent = suits(client, 50)
    produce(client, topic, sent)
    expect("earliest", client.ask("offset", topic=topic, partition=0, at="earliest"), 0)
    expect("latest", client.ask("offset", topic=topic, partition=0, at="latest"), 50)
    if client.name == "kcat":
        sent = read(client, topic, 50)
        at = next(one["offset"] for one in sent if one["timestamp"] >= sent[33]["timestamp"])
        expect("by time", client.ask("offset", topic=topic, partition=0, at=sent[33]["timestamp"]), at)
        return
    expect("exact", client.ask("offset", topic=topic, partition=0, at=sent[33]["timestamp"]), 33)
    expect("between", client.ask("offset", topic=topic, partition=0, at=sent[33]["timestamp"] + 1), 34)


def produces(codec):
    def run(client):
        topic = make(client, f"in-{codec}")
        sent = suits(client, 500)
        produce(client, topic, sent, codec=codec)
        check_same(sent, read(client, topic, 500))

    run.__doc__ = f"produce and read, {codec}"
    run.__name__ = f"codec_{codec}"
    return run


for one in records.CODECS:
    feature("produce")(produces(one))


@feature("produce")
def odd_records(client):
    """null and empty keys and values, binary headers, timestamps"""
    if client.name == "kcat":
        raise Unsupported("kcat writes text lines")
    topic = make(client, "odd")
    produce(client, topic, records.odd())
    check_same(records.odd(), read(client, topic, 7))


def acks(level):
    def run(client):
        topic = make(client, f"acks-{level}")
        sent = suits(client, 100)
        client.ask("produce", topic=topic, records=sent, partition=0, acks=level)
        # Nothing is promised for acks=0 but that a connection in order loses nothing.
        until("all there", 10, lambda: client.ask("offset", topic=topic, partition=0, at="latest") == 100)
        check_same(sent, read(client, topic, 100))

    run.__doc__ = f"acks={level}"
    run.__name__ = f"acks_{level}"
    return run


for one in (0, 1, "all"):
    feature("produce")(acks(one))


@feature("produce")
def idempotent(client):
    """idempotent producer"""
    topic = make(client, "once")
    sent = suits(client, 300)
    produce(client, topic, sent, idempotent=True)
    check_same(sent, read(client, topic, 300))


@feature("produce")
def spread(client):
    """keys choose partitions"""
    topic = make(client, "spread", partitions=3)
    sent = suits(client, 300)
    produce(client, topic, sent, partition=None)
    found = []
    for partition in range(3):
        end = client.ask("offset", topic=topic, partition=partition, at="latest")
        found.append(read(client, topic, end, partition=partition) if end else [])
    expect("records", sum(map(len, found)), 300)
    places = {one["key"]: {p for p in range(3) for other in found[p] if other["key"] == one["key"]} for one in sent}
    expect("a key is in one partition", max(map(len, places.values())), 1)


@feature("produce")
def made_by_use(client):
    """a topic is made by producing to it"""
    topic = name("by-use")
    client.ask("produce", topic=topic, records=suits(client, 10))
    until("there", 10, lambda: topic in client.ask("topics"))


@feature("consume")
def from_places(client):
    """from the beginning, an offset, a time"""
    topic = make(client, "from")
    sent = suits(client, 60)
    produce(client, topic, sent)
    found = read(client, topic, 60)
    check_same(sent, found)
    expect("from an offset", [one["offset"] for one in read(client, topic, 60 - 41, start=41)], list(range(41, 60)))
    at = found[45]["timestamp"]
    first = next(one["offset"] for one in found if one["timestamp"] >= at)
    expect("from a time", read(client, topic, 60 - first, start={"time": at})[0]["offset"], first)


@feature("consume")
def seek_and_pause(client):
    """seek, pause and resume"""
    topic = make(client, "sought")
    produce(client, topic, suits(client, 30))
    client.ask("join", member="m", group=name("g"), topics=[topic], auto=True)
    gather([(client, "m")], 30)
    client.ask("seek", member="m", topic=topic, partition=0, offset=25)
    again = [one["offset"] for one in gather([(client, "m")], 5)]
    expect("after the seek", sorted(set(again)), list(range(25, 30)))
    client.ask("pause", member="m", topic=topic, partition=0)
    client.ask("poll", member="m", ms=500)
    produce(client.helper, topic, suits(client, 5))
    expect("while paused", client.ask("poll", member="m", ms=1500), [])
    client.ask("resume", member="m", topic=topic, partition=0)
    expect("after it", sorted({one["offset"] for one in gather([(client, "m")], 5)}), list(range(30, 35)))
    client.ask("leave", member="m")


def gather(members, count, wait_s=40):
    """Polls each in turn until there are so many distinct records together."""
    seen, end = {}, time.monotonic() + wait_s
    while len(seen) < count and time.monotonic() < end:
        for client, member in members:
            client.start("poll", member=member, ms=300)
        for client, member in members:
            for one in client.finish():
                seen.setdefault((one["partition"], one["offset"]), {**one, "member": member})
    if len(seen) < count:
        raise AssertionError(f"{len(seen)} of {count} records within {wait_s} s")
    return list(seen.values())


def settle(members, parts):
    """Waits until the members' shares are `parts`, however they are dealt."""

    def shares():
        for client, member in members:
            client.start("poll", member=member, ms=200)
        for client, _ in members:
            client.finish()
        held = [client.ask("assignment", member=member) for client, member in members]
        flat = sorted(tuple(one) for share in held for one in share)
        return sorted(map(len, held)) == sorted(parts) and len(set(flat)) == len(flat)

    until(f"shares {parts}", 45, shares)


# What members of a group of so many have of three partitions.
SHARES = {1: [3], 2: [1, 2], 3: [1, 1, 1], 4: [0, 1, 1, 1], 5: [0, 0, 1, 1, 1]}


def group_of(count):
    def run(client):
        topic, group = make(client, "shared", partitions=3), name("g")
        sent = suits(client, 300)
        client.ask("produce", topic=topic, records=sent)
        others = [client.another() for _ in range(count - 1)]
        members = [(one, f"m{place}") for place, one in enumerate([client, *others])]
        joins = {"group": group, "topics": [topic], "auto": True, "session_ms": 3000}
        try:
            for one, member in members:
                one.start("join", member=member, **joins)
            for one, _ in members:
                one.finish()
            found = gather(members, 300)
            expect("records", len(found), 300)
            settle(members, SHARES[count])
            if count > 1:
                # The second dies while the others go on, and comes back.
                members[1][0].kill()
                go_on(client, topic, [members[0], *members[2:]], "b")
                others.append(client.another())
                members[1] = others[-1], "back"
                others[-1].ask("join", member="back", **joins)
                settle(members, SHARES[count])
                # The last leaves.
                one, member = members.pop()
                one.ask("leave", member=member)
                go_on(client, topic, members, "c")
                settle(members, SHARES[count - 1])
            for one, member in members:
                one.ask("leave", member=member)
        finally:
            for one in others:
                one.kill()

    leaves = "; one dies and comes back, one leaves" if count > 1 else ""
    run.__doc__ = f"group of {count} on 3 partitions{leaves}"
    run.__name__ = f"group_of_{count}"
    return run


def go_on(client, topic, members, tag):
    """Records written now are processed by these members together."""
    sent = suits(client, 60, tag)
    client.helper.ask("produce", topic=topic, records=sent)
    until_values(members, {one["value"] for one in sent})


for one in range(1, 6):
    feature("groups")(group_of(one))


@feature("groups")
def dies_and_comes_back(client):
    """a member dies, its share moves, it comes back"""
    topic, group = make(client, "mortal", partitions=3), name("g")
    client.ask("produce", topic=topic, records=suits(client, 150, "a"))
    other = client.another()
    client.ask("join", member="stays", group=group, topics=[topic], auto=True, session_ms=6000)
    other.ask("join", member="dies", group=group, topics=[topic], auto=True, session_ms=6000)
    gather([(client, "stays"), (other, "dies")], 150)
    settle([(client, "stays"), (other, "dies")], [1, 2])
    other.kill()
    client.helper.ask("produce", topic=topic, records=suits(client, 150, "b"))
    # Those that the dead one had read and not committed come again.
    until_values([(client, "stays")], {one["value"] for one in suits(client, 150, "b")})
    again = client.another()
    try:
        again.ask("join", member="back", group=group, topics=[topic], auto=True)
        settle([(client, "stays"), (again, "back")], [1, 2])
        client.ask("leave", member="stays")
        again.ask("leave", member="back")
    finally:
        again.kill()


def until_values(members, wanted, wait_s=45):
    seen = set()

    def all_there():
        for client, member in members:
            client.start("poll", member=member, ms=300)
        for client, _ in members:
            seen.update(one["value"] for one in client.finish())
        return wanted <= seen

    until(f"{len(wanted)} records", wait_s, all_there)


@feature("groups")
def pub_sub(client):
    """two groups see all records each"""
    topic = make(client, "news", partitions=3)
    client.ask("produce", topic=topic, records=suits(client, 90))
    with client.another() as other:
        client.ask("join", member="a", group=name("g"), topics=[topic], auto=True)
        other.ask("join", member="b", group=name("g"), topics=[topic], auto=True)
        expect("first", len(gather([(client, "a")], 90)), 90)
        expect("second", len(gather([(other, "b")], 90)), 90)
        client.ask("leave", member="a")
        other.ask("leave", member="b")


def commits(auto):
    def run(client):
        topic, group = make(client, "kept"), name("g")
        client.ask("produce", topic=topic, records=suits(client, 40, "a"), partition=0)
        client.ask("join", member="m", group=group, topics=[topic], auto=auto)
        gather([(client, "m")], 40)
        if auto:
            # The interval is 200 ms; the next poll after it commits.
            client.ask("poll", member="m", ms=1000)
        else:
            client.ask("commit", member="m")
        client.ask("leave", member="m")
        asked = client.helper if client.name == "kcat" else client
        expect("committed", asked.ask("committed", group=group), [[topic, 0, 40]])
        client.ask("produce", topic=topic, records=suits(client, 5, "b"), partition=0)
        client.ask("join", member="n", group=group, topics=[topic], auto=auto)
        found = gather([(client, "n")], 5)
        client.ask("leave", member="n")
        expect("goes on behind it", sorted(one["offset"] for one in found), list(range(40, 45)))

    run.__doc__ = "automatic commits" if auto else "manual commits"
    run.__name__ = "commits_auto" if auto else "commits_manual"
    return run


feature("groups")(commits(False))
feature("groups")(commits(True))


@feature("groups")
def static_member(client):
    """static membership: a restart moves nothing"""
    topic, group = make(client, "static", partitions=2), name("g")
    client.ask("produce", topic=topic, records=suits(client, 20))
    other = client.another()
    client.ask("join", member="a", group=group, topics=[topic], instance="one", auto=True, session_ms=20000)
    other.ask("join", member="b", group=group, topics=[topic], instance="two", auto=True, session_ms=20000)
    gather([(client, "a"), (other, "b")], 20)
    settle([(client, "a"), (other, "b")], [1, 1])
    before = client.ask("assignment", member="a")
    other.kill()
    with client.another() as again:
        again.ask("join", member="b", group=group, topics=[topic], instance="two", auto=True, session_ms=20000)
        settle([(client, "a"), (again, "b")], [1, 1])
        expect("what the other holds", client.ask("assignment", member="a"), before)
        client.ask("leave", member="a")
        again.ask("leave", member="b")


@feature("groups")
def cooperative(client):
    """cooperative rebalancing"""
    if client.name not in ("confluent-kafka", "kcat", "rdkafka"):
        raise Unsupported("the client has no cooperative assignor")
    topic, group = make(client, "coop", partitions=3), name("g")
    client.ask("produce", topic=topic, records=suits(client, 60))
    with client.another() as other:
        client.ask("join", member="a", group=group, topics=[topic], strategy="cooperative-sticky", auto=True)
        settle([(client, "a")], [3])
        other.ask("join", member="b", group=group, topics=[topic], strategy="cooperative-sticky", auto=True)
        settle([(client, "a"), (other, "b")], [1, 2])
        client.ask("leave", member="a")
        settle([(other, "b")], [3])
        other.ask("leave", member="b")


@feature("groups")
def group_admin(client):
    """list, describe and delete groups"""
    topic, group = make(client, "listed"), name("g")
    client.ask("produce", topic=topic, records=suits(client, 10), partition=0)
    client.ask("join", member="m", group=group, topics=[topic], auto=True)
    gather([(client, "m")], 10)
    with client.another() as admin:
        expect("listed", group in admin.ask("groups"), True)
        found = admin.ask("describe_group", group=group)
        expect("described", (found["state"], found["members"]), ("stable", 1))
        client.ask("leave", member="m")
        until("empty", 20, lambda: admin.ask("describe_group", group=group)["state"] == "empty")
        admin.ask("delete_group", group=group)
        until("gone", 10, lambda: group not in admin.ask("groups"))


# What is refused. Each returns the name of the error that the client raises: the page's second table.

# How clients spell an error's name, beside its own: letters alone.
SPELLINGS = {
    "INVALID_RECORD": "failedtovalidaterecord",
    "INVALID_TOPIC_EXCEPTION": "invalidtopic",
}
# What clients make of it that do not pass it on: `None` where they raise nothing.
OWN_ERRORS = {
    ("kafkajs", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"): "KafkaJSGroupCoordinatorNotFound",
    ("kafkajs", "TOPIC_ALREADY_EXISTS"): "createTopics returns false",
    ("kafka-python", "INVALID_TOPIC_EXCEPTION"): "ValueError",
    ("aiokafka", "INVALID_RECORD"): "UnknownError",
    ("rdkafka", "INVALID_CONFIG"): None,
}


def refusal(client, error, op, **request):
    """Asks what must be refused with `error`; returns what the client made of it."""
    try:
        client.ask(op, **request)
    except Refused as refused:
        letters = re.sub("[^a-z]", "", str(refused).lower())
        if any(one in letters for one in (error.replace("_", "").lower(), SPELLINGS.get(error, error))):
            return error
        own = OWN_ERRORS.get((client.name, error))
        if own and own in str(refused):
            return own
        raise
    if OWN_ERRORS.get((client.name, error), error) is None:
        return "nothing is raised"
    raise AssertionError(f"{op} was not refused")


@feature("refused")
def transaction(client):
    """a producer with a transactional id"""
    return refusal(client, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "transaction")


@feature("refused")
def keyless_for_compacted(client):
    """a record without a key for a compacted topic"""
    topic = make(client, "compacted", cleanup_policy="compact")
    sent = [records.record(None, b"no key")]
    outcome = refusal(client, "INVALID_RECORD", "produce", topic=topic, records=sent, partition=0)
    expect("written", client.ask("offset", topic=topic, partition=0, at="latest"), 0)
    return outcome


@feature("refused")
def internal_topic(client):
    """a record for `__consumer_offsets`"""
    sent = records.plain(1)
    return refusal(client, "INVALID_TOPIC_EXCEPTION", "produce", topic="__consumer_offsets", records=sent, partition=0)


@feature("refused")
def topic_twice(client):
    """a topic that is there already"""
    topic = make(client, "twice")
    return refusal(client, "TOPIC_ALREADY_EXISTS", "create", topic=topic, partitions=1, configs={})


@feature("refused")
def bad_config(client):
    """a topic's config with a value that is none"""
    topic = make(client, "unset", retention_ms="7200000")
    outcome = refusal(client, "INVALID_CONFIG", "alter_config", topic=topic, key="retention.ms", value="soon")
    expect("as before", client.ask("configs", topic=topic)["retention.ms"], "7200000")
    return outcome


@feature("refused")
def group_in_use(client):
    """deleting a group that has members"""
    topic, group = make(client, "used"), name("g")
    client.helper.ask("join", member="m", group=group, topics=[topic], auto=True)
    settle([(client.helper, "m")], [1])
    try:
        outcome = refusal(client, "NON_EMPTY_GROUP", "delete_group", group=group)
        expect("members", client.helper.ask("describe_group", group=group)["members"], 1)
    finally:
        client.helper.ask("leave", member="m")
    return outcome
