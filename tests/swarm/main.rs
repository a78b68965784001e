//! The `everseed` program exchanges content with real clients, and every byte that arrives is compared.
//!
//! Each test has a network of its own (see [`everseed_tests::net`]), so the tests run side by side.
//!
//! # What people met in the field
//!
//! Each row has a situation from public reports about clients, and the tests that cover it, here and in the unit tests.
//! A test that is a table covers several. The last column names more situations of the same kind that the tests cover.
//!
//! | situation | tests | others of its kind |
//! |---|---|---|
//! | a name in an old code page, which grows | `names::components`, `a_bad_name_does_no_harm_beside_a_better_one`, `names::whatever_libtorrent_lays_is_laid` | 300 bytes that are no letters; half a letter at the end; a bad `name.utf-8` beside a good name |
//! | data under raw, decoded or other spellings | `found::data_that_each_client_laid`, `whatever_it_is_called`, `other_spellings_are_found`, `found::files_that_are_named`, `names::whatever_libtorrent_lays_is_laid` | percent-encoded; moved into another folder; the whole folder renamed; what libtorrent laid of any strange torrent |
//! | the same path twice, a file that is a folder | `the_second_gets_a_number`, `duplicates_get_names_of_their_own`, `names_that_differ_in_case_are_found` | a numbered name that is there already; an extension of 60 bytes; thousands of the same |
//! | padding of BitComet, pads without a path | `bitcomet_padding`, `files_are_aligned_by_padding`, `names::whatever_libtorrent_lays_is_laid` | the same pad twice; a folder called so |
//! | composed otherwise (NFC, NFD) | `composed_otherwise`, `found::data_that_each_client_laid`, `the_second_gets_a_number`, `decomposed_is_nfd` | both forms in one torrent; marks in another order; letters that differ in case too |
//! | bytes behind a torrent, odd keys | `what_stands_around_it_is_passed_over`, `odd_values_that_are_not_needed`, `tools::what_libtorrent_reads_is_read`, `magnet::files_with_links` | a byte order mark before it; the same packed; a page behind it |
//! | `length` beside `files` | `what_others_accept`, `odd_values_that_are_not_needed`, `what_is_refused` | a length that is no number; files and no name; pieces that do not match |
//! | packed answers and torrents | `packed_bodies`, `every_packing`, `a_bomb_is_stopped_early`, `tools::a_packed_torrent_is_seeded`, `a_packed_torrent_file_that_is_written_over`, `a_packed_torrent_that_cannot_be_read` | named and not packed; packed and not named, or otherwise, or twice; deflate without its head; a bomb; `x.torrent.gz` in a watched folder |
//! | answers that are too long or end too soon | `too_much_is_cut_off_or_refused`, `answers_that_are_too_long_or_cut`, `answers_that_are_not_to_the_letter` | 30,000 peers; the same packed; cut within a peer, or before the last letter |
//! | a tracker that wants to be left alone | `trackers_ask_to_be_left_alone`, `refusals`, `a_tracker_may_ask_to_be_left_alone` | `Retry-After`, `retry in` and `min interval`, alone and beside each other; none; for a very long time |
//! | answers of trackers that are not to the letter | `answers_that_are_not_to_the_letter` (HTTP, bencode), `heads_that_are_not_to_the_letter`, `bodies_of_every_framing`, `peers_that_have_names` | a status line of HTTP/2; 2,000 lines; NUL in a line; a port as text; `[::1]`; an empty failure |
//! | passwords and passkeys in URLs | `passwords_are_sent_and_not_shown`, `private::no_passkey_is_printed`, `private::private_torrents` | `@` in the password; a redirect to another host; the words of a failing tracker |
//! | a tracker known by a query alone | `paths_of_trackers`, `the_query_joins_what_is_there`, `torrents_reach_no_pages_in_the_house`, `urls` | `?` or `&` at the end; a fragment; spaces in path and query |
//! | UDP answers from elsewhere, long ones | `udp_answers_from_elsewhere_and_long_ones`, `a_tracker_of_several_addresses`, `strangers_and_noise_are_ignored` | another host with a guessed number; 4 KiB and more; an answer that is cut |
//! | the same request twice, the same tracker twice | `each_request_is_sent_once`, `nobody_is_asked_twice`, `trackers_are_named_once` | in another tier; in a list without tiers; a tier of nothing else |
//! | trackers that stand in odd places | `trackers_and_web_seeds`, `urls` (both) | `announce` as a list, alone and beside a list; `announce-list` as a text; lists within tiers; NUL, a byte order mark or another line around a URL; a UDP tracker without a port |
//! | redirects of every kind | `redirects`, `redirects_lead_where_browsers_would_go` | 300 with an address; in circles; with a password |
//! | words of a tracker that say nothing | `udp_failures_are_told`, `what_stands_around_words_is_left_out` | none at all; line ends; a zero at the end |
//! | packed in several parts | `several_parts` | an empty part; zeros or half a head behind; a thousand parts |
//! | unfinished files of other clients | `a_better_one_than_the_one_in_its_place`, `parts_of_files_in_several_places`, all of `takeover`, `names` of watched folders | beside a bad, an empty or a better one; completed later under its own name |
//! | what lies in a folder and is nothing to share | `names` of watched folders, `what_is_left_out_is_named`, `names_of_torrents` | a recycle bin; a torrent that another program has taken |
//! | data behind links | `links_are_followed_while_they_stay`, `what_is_no_file_is_not_taken`, `what_cannot_be_shared_is_named` | swapped while they are opened; loops; a link to a folder above |
//! | names that are not UTF-8, unreadable files | `what_is_left_out_is_named`, `a_file_that_breaks_while_it_is_read_is_left_out`, `what_cannot_be_taken_is_named_and_the_rest_is_made` | excluded although it is no UTF-8; a path of 1,100 bytes; a folder without permission |
//! | a pattern that leaves nothing out | `patterns_that_leave_nothing_out_are_named`, `patterns` | `**/` before a folder at the top; capitals; braces |
//! | what nobody wants in a torrent | `what_is_left_out_is_named`, `what_is_odd_about_a_torrent_is_said`, `named_as_elsewhere` | unfinished and no UTF-8; a pattern for a single file; included and excluded |
//! | `source`, private, other keys that change the hash | `what_is_hashed_makes_another_torrent`, `a_torrent_is_edited`, `the_rest_stays_byte_for_byte`, `what_is_odd_about_a_torrent_is_said` | a source taken away again; the last tracker of a private one; a link to the torrent |
//! | a .torrent that is written over | all of `loaded` | half written; cut; removed; of another hash; while the state's disk is full |
//! | the only source is away | `the_only_source_is_away_for_days`, `the_only_source_comes_and_goes_for_days`, `the_only_source_has_nothing_for_hours`, `a_peer_that_the_user_named` | it comes and goes; it has nothing yet; its user named it |
//! | the only source stumbles | `the_only_source_stumbles`, `who_is_named_may_stumble`, `how_a_connection_ended_decides_whether_its_peer_is_called_again`, `a_request_that_was_lost` | its user named it; it hangs up after each few pieces; it loses a request and gives the rest |
//! | empty names, `..`, a `/` within | `paths`, `the_whole`, `the_folder_has_a_name`, `names::whatever_libtorrent_lays_is_laid` | 90 folders deep; reserved names; what is nothing but marks of direction |
//! | very many files | `nothing_is_there`, `many_are_found_and_too_many_refused`, `many_in_one_piece`, `what_fits_everywhere_has_no_substitute` | of which none is there; of the same names; much smaller than a piece |

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
mod output;
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

/// Seeds `content` with the built-in tracker. All `clients` download it at the same time.
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
