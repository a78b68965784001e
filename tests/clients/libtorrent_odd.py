"""Writes odd torrents into a folder and prints those that libtorrent reads, each with its info-hash.

Parts that no client needs are odd: keys with values of other types, numbers in a wrong form or out of range, the order of
keys, duplicates, depth, bytes behind the torrent. Names are plain.
"""

import random
import sys

import libtorrent as lt

ODD = [
    b"i-0e",
    b"i007e",
    b"i-1e",
    b"i9223372036854775807e",
    b"0:",
    b"3:abc",
    b"03:abc",
    b"le",
    b"de",
    b"l1:ai1eld1:xi5eeee",
    b"d1:bi1e1:ai2ee",
    b"d1:ai1e1:ai2ee",
    b"l" * 40 + b"e" * 40,
    b"l" * 90 + b"e" * 90,
]
OUTER = "announce announce-list comment nodes url-list httpseeds encoding zz".split()
INFO = "private source publisher name.utf-8 length files ed2k similar zz".split()
FILE = "attr md5sum mtime path.utf-8 crc32 sha1 zz".split()


def string(text):
    text = text if isinstance(text, bytes) else text.encode()
    return b"%d:%s" % (len(text), text)


def number(value):
    return b"i%de" % value


def dictionary(pairs):
    return b"d" + b"".join(string(key) + value for key, value in pairs) + b"e"


def odd_keys(rng, names, share):
    return [(name, rng.choice(ODD)) for name in names if rng.random() < share]


def shuffled(rng, pairs):
    pairs = sorted(pairs)
    if rng.random() < 0.2:
        rng.shuffle(pairs)
    return pairs


def torrent(rng):
    piece_length = rng.choice([16384, 20000, 49152, 1 << 20])
    info = odd_keys(rng, INFO, 0.06)
    if rng.random() < 0.6:
        lengths = [rng.choice([0, 1, 16384, 50000]) for _ in range(rng.randrange(1, 5))]
        files = []
        for place, length in enumerate(lengths):
            path = b"l" + string("folder") + string("file %d" % place) + b"e"
            file = [("length", number(length)), ("path", path)]
            files.append(dictionary(shuffled(rng, file + odd_keys(rng, FILE, 0.06))))
        info.insert(0, ("files", b"l" + b"".join(files) + b"e"))
    else:
        lengths = [rng.choice([1, 100, 100000])]
        info.insert(0, ("length", number(lengths[0])))
    pieces = -(-sum(lengths) // piece_length)
    info.append(("name", string("name")))
    info.append(("piece length", number(piece_length)))
    info.append(("pieces", string(b"h" * 20 * pieces)))
    outer = odd_keys(rng, OUTER, 0.2)
    outer.append(("info", dictionary(shuffled(rng, info))))
    after = rng.choice([b"", b"", b"", b"\n", b"\0" * 600, b"<!-- page -->", b"e"])
    return dictionary(shuffled(rng, outer)) + after


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    for place in range(count):
        document = torrent(rng)
        path = "%s/%d.torrent" % (folder, place)
        with open(path, "wb") as file:
            file.write(document)
        try:
            hashes = lt.torrent_info(document).info_hashes()
        except RuntimeError:
            continue
        if hashes.has_v1():
            print(path, hashes.v1)


main()
