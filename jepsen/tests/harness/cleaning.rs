//! A harness that was killed leaves nothing that the next one does not remove.
