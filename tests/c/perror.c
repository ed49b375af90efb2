/* ahoy_perror writes "prefix: detail" and a newline to the standard error, as perror(3) does. */
#include "support.h"

#include <unistd.h>

/* What ahoy_perror prints. */
static const char *printed(const char *prefix) {
    static char line[512];
    int lines[2], saved = dup(STDERR_FILENO);
    CHECK(pipe(lines) == 0 && saved >= 0);
    dup2(lines[1], STDERR_FILENO);
    ahoy_perror(prefix);
    dup2(saved, STDERR_FILENO);
    ssize_t got = read(lines[0], line, sizeof line - 1);
    CHECK(got > 0);
    line[got] = '\0';
    close(lines[0]), close(lines[1]), close(saved);
    return line;
}

int main(void) {
    char expected[512];
    CHECK_TEXT(printed("start"), "start: no error\n");

    ahoy_server server;
    ahoy_server_options options = OPTIONS(.listen = "tcp://127.0.0.1:70000");
    CHECK_STATUS(ahoy_server_start(&options, &server), AHOY_ERR_PORT);
    snprintf(expected, sizeof expected, "start: %s\n", ahoy_last_error());
    CHECK_TEXT(printed("start"), expected);
    CHECK_TEXT(printed("start"), expected); /* printing does not use it up */
    CHECK_TEXT(printed(""), expected + strlen("start: "));
    CHECK_TEXT(printed(NULL), expected + strlen("start: "));
    snprintf(expected, sizeof expected, "100%%s: %s\n", ahoy_last_error());
    CHECK_TEXT(printed("100%s"), expected); /* a prefix is no format */
    return 0;
}
