//! For a Cortex-M0, which faults when it shall read or write a number at an address that is no multiple of
//! its size: reads everything at every offset, then makes such a fault, which is what success is.
//!
//! `tests/run` boots it under qemu, which it talks to by semihosting: a breakpoint with the operation in `r0`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[path = "../../core/tests/offsets/mod.rs"]
mod offsets;

#[cfg(not(target_os = "none"))]
fn main() {
    offsets::all();
}

#[cfg(target_os = "none")]
mod machine {
    use core::arch::{asm, global_asm};
    use core::fmt::{self, Write};
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicBool, Ordering};

    // Where the CPU finds its stack and what to do at a start and after a fault. Memory is cleared already.
    global_asm!(
        ".section .vectors, \"a\"",
        ".global vectors",
        "vectors:",
        ".word 0x20004000",
        ".word start + 1",
        ".word fault + 1",
        ".word fault + 1",
    );

    /// Whether a fault is what is wanted.
    static READ: AtomicBool = AtomicBool::new(false);

    #[unsafe(no_mangle)]
    extern "C" fn start() -> ! {
        super::offsets::all();
        READ.store(true, Ordering::Relaxed);
        // SAFETY: It reads within a word that is there; or faults, and does not come back.
        unsafe { asm!("ldr {0}, [{0}]", inout(reg) 0x2000_0001_u32 => _) };
        say("this machine reads numbers anywhere, which says nothing\n\0");
        exit(false);
    }

    #[unsafe(no_mangle)]
    extern "C" fn fault() -> ! {
        let wanted = READ.load(Ordering::Relaxed);
        if !wanted {
            say("a fault\n\0");
        }
        exit(wanted);
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        let _ = writeln!(Console, "{info}");
        exit(false);
    }

    struct Console;

    impl Write for Console {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                call(0x03, core::ptr::from_ref(&byte).addr());
            }
            Ok(())
        }
    }

    /// Writes what ends in a zero.
    fn say(text: &str) {
        call(0x04, text.as_ptr().addr());
    }

    fn exit(good: bool) -> ! {
        call(0x18, if good { 0x20026 } else { 0x20023 });
        loop {}
    }

    fn call(operation: u32, argument: usize) {
        // SAFETY: qemu reads what `argument` points to, and changes `r0` only.
        unsafe { asm!("bkpt 0xab", inout("r0") operation => _, in("r1") argument) };
    }
}
