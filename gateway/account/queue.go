package account

import (
	"container/heap"
	"context"
	"sync"

	"pop3gw/gateway"
)

// queue lets a bounded number of costly checks run at a time. The one that goes
// next has the lowest gateway.Rank, and among equals came last: when there are too
// many for all to be served in time, those that came first have given up already.
type queue struct {
	mu      sync.Mutex
	max     int
	running int
	came    int
	waiting checks
}

// check is one that waits.
type check struct {
	ctx   context.Context
	rank  int // when it was last looked at
	came  int
	index int // in the heap; -1 when it has left
	turn  chan struct{}
}

func newQueue(max int) *queue { return &queue{max: max} }

// enter waits for a place. Without an error the caller calls leave.
func (q *queue) enter(ctx context.Context) error {
	q.mu.Lock()
	if q.running < q.max {
		q.running++
		q.mu.Unlock()
		return nil
	}
	q.came++
	c := &check{ctx: ctx, rank: gateway.Rank(ctx), came: q.came, turn: make(chan struct{})}
	heap.Push(&q.waiting, c)
	q.mu.Unlock()
	select {
	case <-c.turn:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.index < 0 { // its turn came at the same moment
		q.pass()
	} else {
		heap.Remove(&q.waiting, c.index)
	}
	return context.Cause(ctx)
}

func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pass()
}

// pass gives a place to the next. Of the address of the one that seemed to be
// next others may have failed meanwhile: then it waits on, behind those of others.
func (q *queue) pass() {
	for len(q.waiting) > 0 {
		first := q.waiting[0]
		if rank := gateway.Rank(first.ctx); rank > first.rank {
			first.rank = rank
			heap.Fix(&q.waiting, 0)
			continue
		}
		heap.Pop(&q.waiting)
		close(first.turn)
		return
	}
	q.running--
}

// checks is a heap; the next one is first.
type checks []*check

func (c checks) Len() int { return len(c) }

func (c checks) Less(i, j int) bool {
	if c[i].rank != c[j].rank {
		return c[i].rank < c[j].rank
	}
	return c[i].came > c[j].came
}

func (c checks) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].index, c[j].index = i, j
}

func (c *checks) Push(x any) {
	x.(*check).index = len(*c)
	*c = append(*c, x.(*check))
}

func (c *checks) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	(*c)[last] = nil
	*c = (*c)[:last]
	x.index = -1
	return x
}
