package throwaway

import "os"

// roomInMemory is how much must be free in memory before a home goes there.
const roomInMemory = 4 << 30

// TempDir returns the folder for homes: that of the environment variable
// TMPDIR, or one in memory that has room, or the system's.
func TempDir() string {
	if os.Getenv("TMPDIR") == "" && memoryFree() >= roomInMemory {
		return memoryDir
	}
	return os.TempDir()
}
