/*
 * Exports of a library built with the feature `test-hooks`. They make the library's own calls fail; no
 * installed library has them.
 */
#ifndef TEST_HOOKS_H
#define TEST_HOOKS_H

/*
 * After `skip` calls that go through, the call of this name fails `times` times (-1: always) with
 * `error` as errno, in the whole process. `times` 0: no longer. The names: accept4, recv, sendmsg,
 * epoll_ctl, epoll_wait, epoll_create1, eventfd, timerfd, socket, bind, listen, spawn, memory, poll,
 * connect, recvmmsg, sendmmsg, io_uring_setup.
 */
void ahoy_test_fail(const char *call, int error, int skip, int times);

/* How often the library has made the call since the last ahoy_test_fail for it. */
int ahoy_test_calls(const char *call);

/* After `skip` messages, the next one that is received panics inside the library. */
void ahoy_test_panic(int skip);

#endif
