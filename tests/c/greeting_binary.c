/* A greeting of `greeting_bytes` bytes may hold anything, zero bytes included, and be long. */
#include "support.h"

#include <unistd.h>

static void check_greeting(const void *greeting, size_t bytes, const void *expected, size_t len) {
    static char answer[1 << 20];
    char *copy = bytes ? malloc(bytes) : strdup(greeting);
    memcpy(copy, greeting, bytes ? bytes : strlen(greeting) + 1);
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .greeting = copy, .greeting_bytes = bytes));
    free(copy); /* the server has its own */
    int fd = dial(server);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), len);
    CHECK(memcmp(answer, expected, len) == 0);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    static const char binary[] = "\0a\0\xff\n\0";
    static char large[500000];
    pattern_fill(large, sizeof large, 0);
    check_greeting(binary, sizeof binary, binary, sizeof binary);
    check_greeting("\0", 1, "\0", 1);
    check_greeting("text", 0, "text", 4);
    check_greeting("text", 2, "te", 2);
    check_greeting(large, sizeof large, large, sizeof large);
    check_greeting("", 0, "", 0); /* an empty greeting: just the end */

    /* One that could never be sent is refused at the start. */
    ahoy_server server = { 0 };
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .greeting = large,
                                          .greeting_bytes = sizeof large, .queue_bytes_max = 1000);
    CHECK_STATUS(ahoy_server_start(&options, &server), AHOY_ERR_TOO_LONG);
    CHECK_EQ(server.id, 0);
    return 0;
}
