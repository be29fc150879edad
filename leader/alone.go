package leader

import "context"

// Alone is Run as a function of its work. Use it to have something done by one
// process at a time, without the lock's connection:
//
//	alone := leader.Alone(pglock.FromPool(pool, leader.Key("shop", "pruning"), ""), leader.Options{})
//	err := alone(ctx, func(leading context.Context) error { … })
func Alone[C any](locker Locker[C], opts Options) func(ctx context.Context, work func(leading context.Context) error) error {
	return func(ctx context.Context, work func(context.Context) error) error {
		return Run(ctx, locker, opts, func(leading context.Context, _ *Term[C]) error { return work(leading) })
	}
}
