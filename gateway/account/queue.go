package account

import (
	"container/heap"
	"context"
	"sync"

	"pop3gw/gateway"
)

// queue lets a bounded number of costly checks run at a time. The one that goes
// next has the lowest gateway.Rank. Among those of a low one it came last: when there
// are too many for all to be served in time, those that came first have given up.
// Where several may run, one place is kept free of doubtful ones, such as guesses.
type queue struct {
	mu       sync.Mutex
	max      int
	running  int
	doubtful int // of those that run
	came     int
	waiting  checks
}

// check is one that waits or runs.
type check struct {
	ctx   context.Context
	rank  int // when it was last looked at
	came  int
	index int // in the heap; -1 when it has left
	turn  chan struct{}
}

// trusted is the highest rank of a check that is not doubtful.
const trusted = 1

func newQueue(max int) *queue { return &queue{max: max} }

// enter waits for a place. Without an error the caller calls leave.
func (q *queue) enter(ctx context.Context) (leave func(), err error) {
	c := &check{ctx: ctx, rank: gateway.Rank(ctx), turn: make(chan struct{})}
	q.mu.Lock()
	q.came++
	c.came = q.came
	heap.Push(&q.waiting, c)
	q.start()
	q.mu.Unlock()
	leave = func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.end(c)
	}
	select {
	case <-c.turn:
		return leave, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.index < 0 { // its turn came at the same moment
		q.end(c)
	} else {
		heap.Remove(&q.waiting, c.index)
	}
	return nil, context.Cause(ctx)
}

func (q *queue) end(c *check) {
	q.running--
	if c.rank > trusted {
		q.doubtful--
	}
	q.start()
}

// start lets those go that may. Of the address of the one that seemed to be next
// others may have failed meanwhile: then it waits on, behind those of others.
func (q *queue) start() {
	for q.running < q.max && len(q.waiting) > 0 {
		first := q.waiting[0]
		if rank := gateway.Rank(first.ctx); rank > first.rank {
			first.rank = rank
			heap.Fix(&q.waiting, 0)
			continue
		}
		if first.rank > trusted {
			if q.doubtful >= max(1, q.max-1) {
				return
			}
			q.doubtful++
		}
		heap.Pop(&q.waiting)
		q.running++
		close(first.turn)
	}
}

// checks is a heap; the next one is first.
type checks []*check

func (c checks) Len() int { return len(c) }

func (c checks) Less(i, j int) bool {
	switch {
	case c[i].rank != c[j].rank:
		return c[i].rank < c[j].rank
	case c[i].rank > trusted: // many users at one address, for instance: each gets his turn
		return c[i].came < c[j].came
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
