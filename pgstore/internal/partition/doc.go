// Package partition keeps the partitions of the sessions table: it knows which
// there are, makes those that are needed, and retires those whose time is over.
//
//	Table    what the database says of itself, read once a minute and when a caller
//	         waits for it; makes the partition that a write needs
//	Pruning  one node leads, and does a pass now and then, step by step:
//	         finish interrupted detaching, take care of detached partitions, make
//	         ahead, pass on rights, retire, notify, thin out, note the pass
//	hand     the connection of a pass: one that keeps locks, or one through a
//	         pooler, which has them for one transaction
//
// It knows nothing of sessions but the columns that say when they are over.
package partition
