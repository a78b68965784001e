//! The swarm: the `everseed` binary on one side, real clients on the other, and every byte that
//! arrives compared.
//!
//! Each test is alone in its network (see [`everseed_tests::net`]), so they run side by side.
//!
//! # What people met in the field
//!
//! Situations from public reports about clients, and the tests of each and of others of its kind, here and beside the
//! code (a name of a table has several of them in it):
//!
//! | situation | tests |
//! |---|---|
//! | a name in an old code page, which grows | `names::components`, `a_bad_name_does_no_harm_beside_a_better_one`, `names::whatever_libtorrent_lays_is_laid` |
//! | data under raw, decoded or other spellings | `found::data_that_each_client_laid`, `whatever_it_is_called`, `other_spellings_are_found`, `found::files_that_are_named` |
//! | the same path twice, a file that is a folder | `the_second_gets_a_number`, `duplicates_get_names_of_their_own`, `names_that_differ_in_case_are_found` |
//! | padding of BitComet, pads without a path | `bitcomet_padding`, `files_are_aligned_by_padding`, `names::whatever_libtorrent_lays_is_laid` |
//! | composed otherwise (NFC, NFD) | `composed_otherwise`, `found::data_that_each_client_laid`, `the_second_gets_a_number` |
//! | bytes behind a torrent, odd keys | `what_stands_around_it_is_passed_over`, `odd_values_that_are_not_needed`, `tools::what_libtorrent_reads_is_read` |
//! | `length` beside `files` | `what_others_accept`, `odd_values_that_are_not_needed`, `what_is_refused` |
//! | packed answers and torrents | `packed_bodies`, `every_packing`, `a_bomb_is_stopped_early`, `tools::a_packed_torrent_is_seeded` |
//! | answers of trackers that are not to the letter | `answers_that_are_not_to_the_letter` (HTTP, bencode), `bodies_of_every_framing`, `peers_that_have_names` |
//! | passwords and passkeys in URLs | `passwords_are_sent_and_not_shown`, `private::no_passkey_is_printed`, `private::private_torrents` |
//! | a tracker known by a query alone | `paths_of_trackers`, `the_query_joins_what_is_there`, `torrents_reach_no_pages_in_the_house` |
//! | UDP answers from elsewhere, long ones | `udp_answers_from_elsewhere_and_long_ones`, `a_tracker_of_several_addresses`, `strangers_and_noise_are_ignored` |
//! | data behind links | `links_are_followed_while_they_stay`, `what_is_no_file_is_not_taken`, `what_cannot_be_shared_is_named` |
//! | names that are not UTF-8, unreadable files, what nobody wants | `what_is_left_out_is_named`, `a_file_that_breaks_while_it_is_read_is_left_out`, `what_cannot_be_taken_is_named_and_the_rest_is_made` |
//! | `source`, private, other keys that change the hash | `what_is_hashed_makes_another_torrent`, `a_torrent_is_edited`, `the_rest_stays_byte_for_byte` |
//! | a .torrent that is written over | all of `loaded` |
//! | the only source is away | `the_only_source_is_away_for_days`, `the_only_source_comes_and_goes_for_days`, `the_only_source_has_nothing_for_hours`, `the_only_source_outlasts_another`, `a_peer_that_the_user_named` |
//! | empty names, `..`, a `/` within | `paths`, `the_whole`, `the_folder_has_a_name` |

mod access;
mod apart;
mod beside;
mod ceiling;
mod content;
mod crowd;
mod defaults;
mod described;
mod dht;
mod discovery;
mod disks;
mod download;
mod far;
mod faults;
mod flash;
mod flood;
mod found;
mod gossip;
mod guest;
mod habits;
mod hostile;
mod incomplete;
mod interface;
mod known;
mod loaded;
mod magnet;
mod manager;
mod many;
mod memory;
mod names;
mod outside;
mod owner;
mod portmap;
mod power;
mod private;
mod proxy;
mod ram;
mod rate;
mod reload;
mod relocated;
mod restart;
mod resume;
mod service;
mod serving;
mod several;
mod sources;
mod strangers;
mod takeover;
mod tools;
mod trace;
mod trackerless;
mod turns;
mod uplink;
mod vanished;
mod watched;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::Setup;

/// Seeds `content` with its built-in tracker and lets each of `clients` download it, all at once.
fn seed_to(clients: &[Client], family: Family, content: &Content, args: &[&str]) {
    let net = Net::new();
    let dir = Dir::new("seed");
    let setup = Setup::new(content.path(), net.addr(family)).args(args);
    let mut seeder = setup.start(&dir);
    let torrent = seeder.torrent();
    let start = |client: &Client| client.download(&torrent, net.addr(family));
    let mut downloads: Vec<_> = clients.iter().map(start).collect();
    for download in &mut downloads {
        download.finish(content);
    }
    seeder.stop();
}
