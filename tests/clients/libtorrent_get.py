"""Downloads one torrent with libtorrent, and exits when every piece is checked and written, or stays.

Other peers are found only through the torrent's trackers and --peer. libtorrent's alerts are printed.
"""

import argparse

import libtorrent as lt


def mask():
    kinds = lt.alert.category_t
    return (
        kinds.error_notification
        | kinds.tracker_notification
        | kinds.storage_notification
        | kinds.status_notification
        | kinds.connect_notification
    )


def session(listen, only_accept, plain):
    return lt.session(
        {
            "listen_interfaces": listen,
            "outgoing_interfaces": listen.rpartition(":")[0].strip("[]"),
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "enable_outgoing_tcp": not only_accept,
            # With encryption libtorrent would connect twice to a seeder that refuses it.
            "out_enc_policy": int(lt.enc_policy.pe_disabled if plain else lt.enc_policy.pe_enabled),
            # The default is a minute, for which a test of restarts would have to wait.
            "min_reconnect_time": 1,
            "alert_mask": mask(),
        }
    )


def add(session, torrent, save_dir, trackers, defaults):
    if torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(torrent)
    params.save_path = save_dir
    if not defaults:
        params.flags |= lt.torrent_flags.disable_pex
    handle = session.add_torrent(params)
    if not trackers:
        handle.replace_trackers([])
    return handle


def finish(session, handle, stay):
    flushing = False
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            print(alert.what() + ": " + alert.message(), flush=True)
            if flushing and not stay and isinstance(alert, lt.cache_flushed_alert):
                return
        # A magnet link's torrent counts as complete for a moment when its metadata has arrived.
        status = handle.status()
        if status.is_seeding and status.total_wanted > 0 and not flushing:
            handle.flush_cache()
            flushing = True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torrent")
    parser.add_argument("save_dir")
    parser.add_argument("listen", help="IP:PORT, or [IP]:PORT")
    parser.add_argument("--peer", help="a peer to begin with, IP:PORT")
    parser.add_argument("--no-trackers", action="store_true")
    parser.add_argument("--stay", action="store_true", help="go on seeding")
    parser.add_argument("--only-accept", action="store_true", help="make no connections")
    parser.add_argument("--plain", action="store_true", help="connect without encryption")
    parser.add_argument("--defaults", action="store_true", help="libtorrent's own settings")
    args = parser.parse_args()
    if args.defaults:
        # Only the alerts are set, because they are printed.
        s = lt.session({"alert_mask": mask()})
    else:
        s = session(args.listen, args.only_accept, args.plain)
    handle = add(s, args.torrent, args.save_dir, not args.no_trackers, args.defaults)
    if args.peer:
        host, _, port = args.peer.rpartition(":")
        handle.connect_peer((host.strip("[]"), int(port)))
    finish(s, handle, args.stay)


if __name__ == "__main__":
    main()
