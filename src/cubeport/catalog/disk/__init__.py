"""What a disk must do for us: durable writes, file locks, mounts, and the points where tests make it fail."""
