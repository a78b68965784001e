"""Downloads and seeds with libtorrent, which finds peers in only one way, and stays.

WAY is dht, pex or lsd. Each WHAT is a torrent file or a magnet link. Existing data is verified first.
"""

import argparse
import time

import libtorrent as lt


def session(way, listen):
    return lt.session(
        {
            "listen_interfaces": listen,
            "outgoing_interfaces": listen.rpartition(":")[0].strip("[]"),
            "dht_bootstrap_nodes": "",
            "enable_dht": way == "dht",
            "enable_lsd": way == "lsd",
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            # All nodes are on this machine.
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
        }
    )


def add(session, way, save_path, what):
    if what.startswith("magnet:"):
        params = lt.parse_magnet_uri(what)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(what)
    params.save_path = save_path
    if way != "pex":
        params.flags |= lt.torrent_flags.disable_pex
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    session.add_torrent(params)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["dht", "pex", "lsd"])
    parser.add_argument("listen", help="IP:PORT, or [IP]:PORT")
    parser.add_argument("save_path")
    parser.add_argument("what", nargs="+")
    parser.add_argument("--node", action="append", default=[], help="a DHT node to begin with")
    args = parser.parse_args()
    s = session(args.way, args.listen)
    for node in args.node:
        host, _, port = node.rpartition(":")
        s.add_dht_node((host.strip("[]"), int(port)))
    # libtorrent does not announce a torrent that was added before its DHT knew a node.
    while args.node and s.status().dht_nodes == 0:
        time.sleep(0.05)
    for what in args.what:
        add(s, args.way, args.save_path, what)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
