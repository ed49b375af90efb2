/*
 * Rings that the system refuses: for want of memory or of descriptors that is what the start says, and it leaves nothing;
 * where the system does not have them or does not allow them, the program learns that, too. One that has left the choice to
 * the library is served without them. EPERM is also what a system says that has switched them off (kernel.io_uring_disabled).
 */
#include "hooks.h"
#include "support.h"

#include <errno.h>
#include <unistd.h>

static void refused(const char *call, int error, int skip, ahoy_status status) {
    holdings before = holdings_now();
    ahoy_server server = { 77 };
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 3, .driver = AHOY_DRIVER_URING);
    ahoy_test_fail(call, error, skip, 1);
    CHECK_STATUS(ahoy_server_start(&options, &server), status);
    ahoy_test_fail(call, 0, 0, 0);
    CHECK_EQ(server.id, 77);
    CHECK_HOLDINGS(before);
}

/* One that greets and closes, with one worker: where AUTO takes rings. */
static void falls_back(const char *call, int error) {
    holdings before = holdings_now();
    ahoy_server server;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .driver = AHOY_DRIVER_AUTO);
    ahoy_test_fail(call, error, 0, 1);
    CHECK_OK(ahoy_server_start(&options, &server));
    ahoy_test_fail(call, 0, 0, 0);
    CHECK_TEXT(ahoy_server_driver(server), "epoll");
    int fd = dial(server);
    char answer[17];
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), sizeof answer);
    close(fd);
    ahoy_server_free(server);
    CHECK_HOLDINGS(before);
}

/* As with 1 or 2 in /proc/sys/kernel/io_uring_disabled. */
static void io_uring_disabled(int skip) {
    refused("io_uring_setup", EPERM, skip, AHOY_ERR_UNSUPPORTED);
    CHECK(strstr(ahoy_last_error(), "not allowed here"));
}

int main(void) {
    need_uring();
    /* Of the first worker, and of the last. */
    for (int skip = 0; skip < 3; skip += 2) {
        io_uring_disabled(skip);
        refused("io_uring_setup", ENOSYS, skip, AHOY_ERR_UNSUPPORTED);
        refused("io_uring_setup", ENOMEM, skip, AHOY_ERR_MEMORY);
        refused("io_uring_setup", EMFILE, skip, AHOY_ERR_DESCRIPTORS);
        refused("epoll_create1", EMFILE, skip, AHOY_ERR_DESCRIPTORS);
    }
    falls_back("io_uring_setup", ENOMEM);
    falls_back("io_uring_setup", EPERM);
    falls_back("io_uring_setup", ENOSYS);
    return 0;
}
