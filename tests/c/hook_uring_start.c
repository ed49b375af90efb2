/*
 * Rings that the system refuses: for want of memory or of descriptors that is what the start says, and it leaves nothing;
 * where the system does not have them or does not allow them, the program learns that, too.
 */
#include "hooks.h"
#include "support.h"

#include <errno.h>

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

int main(void) {
    need_uring();
    /* Of the first worker, and of the last. */
    for (int skip = 0; skip < 3; skip += 2) {
        refused("io_uring_setup", ENOMEM, skip, AHOY_ERR_MEMORY);
        refused("io_uring_setup", EMFILE, skip, AHOY_ERR_DESCRIPTORS);
        refused("io_uring_setup", EPERM, skip, AHOY_ERR_UNSUPPORTED);
        refused("io_uring_setup", ENOSYS, skip, AHOY_ERR_UNSUPPORTED);
        refused("epoll_create1", EMFILE, skip, AHOY_ERR_DESCRIPTORS);
    }
    return 0;
}
