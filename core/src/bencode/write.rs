//! [`Writer`] writes bencode in its canonical form.

use embedded_io::Write;

/// Writes bencode to `W`. The caller opens and closes containers and gives a dictionary's keys in the order of their
/// bytes. Debug builds check the order of keys that fit in 32 bytes, and that at most [`DEPTH`](super::DEPTH)
/// containers are open: more could not be read again.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    #[cfg(debug_assertions)]
    order: order::KeyOrder,
}

impl<W: Write> Writer<W> {
    /// A writer at the start of a document.
    pub fn new(out: W) -> Writer<W> {
        Writer {
            out,
            #[cfg(debug_assertions)]
            order: order::KeyOrder::default(),
        }
    }

    /// Writes a number.
    pub fn integer(&mut self, value: i64) -> Result<(), W::Error> {
        self.out.write_all(b"i")?;
        if value < 0 {
            self.out.write_all(b"-")?;
        }
        self.digits(value.unsigned_abs())?;
        self.out.write_all(b"e")
    }

    /// Writes a byte string.
    pub fn string(&mut self, bytes: &[u8]) -> Result<(), W::Error> {
        self.string_len(bytes.len() as u64)?;
        self.raw(bytes)
    }

    /// Writes the head of a byte string of `len` bytes. The caller then writes the bytes by [`raw`](Self::raw).
    pub fn string_len(&mut self, len: u64) -> Result<(), W::Error> {
        self.digits(len)?;
        self.out.write_all(b":")
    }

    /// Writes bytes as they are: those of a string whose head was written, or a value that is bencode already.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), W::Error> {
        self.out.write_all(bytes)
    }

    /// Writes a key of the open dictionary. The caller has to write its value next.
    pub fn key(&mut self, key: &[u8]) -> Result<(), W::Error> {
        #[cfg(debug_assertions)]
        self.order.key(key);
        self.string(key)
    }

    /// Opens a dictionary.
    pub fn dict(&mut self) -> Result<(), W::Error> {
        #[cfg(debug_assertions)]
        self.order.open();
        self.out.write_all(b"d")
    }

    /// Opens a list.
    pub fn list(&mut self) -> Result<(), W::Error> {
        #[cfg(debug_assertions)]
        self.order.open();
        self.out.write_all(b"l")
    }

    /// Closes the container that was opened last.
    pub fn end(&mut self) -> Result<(), W::Error> {
        #[cfg(debug_assertions)]
        self.order.close();
        self.out.write_all(b"e")
    }

    /// The output.
    pub fn inner(&self) -> &W {
        &self.out
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn digits(&mut self, mut value: u64) -> Result<(), W::Error> {
        let mut digits = [b'0'; 20];
        let mut len = 0usize;
        for place in digits.iter_mut().rev() {
            *place = b'0'.wrapping_add(u8::try_from(value % 10).unwrap_or(0));
            value /= 10;
            len = len.saturating_add(1);
            if value == 0 {
                break;
            }
        }
        let start = digits.len().saturating_sub(len);
        self.out.write_all(digits.get(start..).unwrap_or_default())
    }
}

#[cfg(debug_assertions)]
mod order {
    use heapless::Vec;

    use crate::bencode::DEPTH;

    /// The last key that fits of each open container.
    #[derive(Debug, Default)]
    pub(super) struct KeyOrder(Vec<Vec<u8, 32>, DEPTH>);

    impl KeyOrder {
        pub(super) fn open(&mut self) {
            let pushed = self.0.push(Vec::new());
            debug_assert!(pushed.is_ok(), "containers are nested too deeply");
        }

        pub(super) fn close(&mut self) {
            self.0.pop();
        }

        pub(super) fn key(&mut self, key: &[u8]) {
            if let (Some(last), Ok(key)) = (self.0.last_mut(), Vec::from_slice(key)) {
                debug_assert!(last.is_empty() || *last < key, "keys are out of order");
                *last = key;
            }
        }
    }
}
