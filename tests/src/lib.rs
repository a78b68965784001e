//! Tools of the swarm tests: real clients on loopback, content, hostile peers.
