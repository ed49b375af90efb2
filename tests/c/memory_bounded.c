/*
 * `queue_bytes_max` bounds memory, not only a count: whatever the sizes of the pieces, copied, owned or one
 * after the other, a full queue costs no more than a few times its limit.
 */
#include "support.h"

#include <malloc.h>
#include <unistd.h>

enum { QUEUE_BYTES = 1 << 20, TIMES = 4 };

static tally seen = TALLY_INIT;
static size_t copied_bytes, owned_bytes; /* of one round; 0: none of them */

/* Fills the queue from inside a callback, where nothing leaves. */
static void fill(ahoy_conn conn, const void *data, size_t len, void *user) {
    static const char bytes[65536];
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    ahoy_status status = AHOY_OK;
    long pieces = 0;
    while (!status) {
        if (copied_bytes) status = ahoy_send(conn, bytes, copied_bytes);
        if (!status && owned_bytes) status = ahoy_send_owned(conn, bytes, owned_bytes, NULL, NULL);
        pieces++;
    }
    CHECK_STATUS(status, AHOY_ERR_AGAIN);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    size_t used = after > before ? after - before : 0;
    printf("copied %zu, owned %zu: %ld pieces, %zu KiB\n", copied_bytes, owned_bytes, pieces, used >> 10);
    CHECK(used <= (size_t)TIMES * QUEUE_BYTES);
    tally_message(conn, data, len, user);
}

int main(void) {
    static const size_t sizes[][2] = { { 1, 0 }, { 0, 1 }, { 1, 1 }, { 100, 1 }, { 1, 65000 },
                                       { 5000, 0 }, { 4097, 1 }, { 65000, 65000 } };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        seen = (tally)TALLY_INIT;
        copied_bytes = sizes[i][0];
        owned_bytes = sizes[i][1];
        ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                           .queue_bytes_max = QUEUE_BYTES, .on_message = fill));
        int fd = dial(server);
        send_all(fd, "go", 2);
        latch_wait(&seen.messages, 1);
        ahoy_server_free(server);
        close(fd);
    }
    return 0;
}
