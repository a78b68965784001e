"""Downloads or seeds with libtorrent, which finds others by the distributed hash table alone, and stays.

NODE is one that it begins with; WHAT is a torrent file or a magnet link. "complete" is printed once all is there.
"""

import sys
import time

import libtorrent as lt


def main():
    listen, node, save_path, what = sys.argv[1:]
    host, _, port = node.rpartition(":")
    session = lt.session(
        {
            "listen_interfaces": listen,
            "dht_bootstrap_nodes": "",
            "enable_dht": True,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            # All of them are on this machine.
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
        }
    )
    session.add_dht_node((host, int(port)))
    if what.startswith("magnet:"):
        params = lt.parse_magnet_uri(what)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(what)
    params.save_path = save_path
    params.flags |= lt.torrent_flags.disable_pex
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    # It says nothing of a torrent that was there before the table was.
    while session.status().dht_nodes == 0:
        time.sleep(0.05)
    torrent = session.add_torrent(params)
    print("ready", flush=True)
    while not torrent.status().is_seeding:
        time.sleep(0.05)
    print("complete", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
