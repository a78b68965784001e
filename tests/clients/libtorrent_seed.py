"""Seeds torrents with libtorrent to all peers at once, until it is stopped."""

import signal
import sys

import libtorrent as lt


def session(how, listen):
    settings = lt.min_memory_usage() if how == "least" else lt.default_settings()
    settings.update(
        {
            "listen_interfaces": listen,
            "outgoing_interfaces": listen.rpartition(":")[0],
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "in_enc_policy": int(lt.enc_policy.pe_disabled),
            "out_enc_policy": int(lt.enc_policy.pe_disabled),
            "unchoke_slots_limit": -1,
            "connections_limit": 8000,
            "active_limit": -1,
            "active_seeds": -1,
            "alert_mask": 0,
        }
    )
    return lt.session(settings)


def add(session, torrent, data):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = data
    params.max_connections = 8000
    params.max_uploads = -1
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    session.async_add_torrent(params)


def main():
    how, listen, data, *torrents = sys.argv[1:]
    s = session(how, listen)
    for torrent in torrents:
        add(s, torrent, data)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
