/* Every status has its name and its sentence; numbers that are none have the fallback. */
#include "support.h"

#include <ctype.h>

/* The numbers never change: this list only grows. */
static const struct { ahoy_status status; int number; const char *name; } table[] = {
#define ROW(number, name) { name, number, #name }
    ROW(0, AHOY_OK), ROW(-1, AHOY_ERR_STALE), ROW(-2, AHOY_ERR_AGAIN), ROW(-3, AHOY_ERR_NULL),
    ROW(-4, AHOY_ERR_INVALID), ROW(-5, AHOY_ERR_SIZE), ROW(-6, AHOY_ERR_ENUM),
    ROW(-7, AHOY_ERR_TOO_LONG), ROW(-8, AHOY_ERR_URL), ROW(-9, AHOY_ERR_PORT),
    ROW(-10, AHOY_ERR_PATH_TOO_LONG), ROW(-11, AHOY_ERR_ADDRESS_IN_USE),
    ROW(-12, AHOY_ERR_ADDRESS_UNAVAILABLE), ROW(-13, AHOY_ERR_PERMISSION),
    ROW(-14, AHOY_ERR_NOT_FOUND), ROW(-15, AHOY_ERR_MEMORY), ROW(-16, AHOY_ERR_DESCRIPTORS),
    ROW(-17, AHOY_ERR_BAD_DESCRIPTOR), ROW(-18, AHOY_ERR_THREAD), ROW(-19, AHOY_ERR_DEADLOCK),
    ROW(-20, AHOY_ERR_FORKED), ROW(-21, AHOY_ERR_PANIC), ROW(-22, AHOY_ERR_STOPPED),
    ROW(-23, AHOY_ERR_CLOSED), ROW(-24, AHOY_ERR_EOF), ROW(-25, AHOY_ERR_RESET),
    ROW(-26, AHOY_ERR_TIMEOUT), ROW(-27, AHOY_ERR_BUSY), ROW(-28, AHOY_ERR_UNSUPPORTED),
    ROW(-29, AHOY_ERR_SYSTEM), ROW(-30, AHOY_ERR_OVERFLOW), ROW(-31, AHOY_ERR_NAME),
    ROW(-32, AHOY_ERR_REFUSED), ROW(-33, AHOY_ERR_UNREACHABLE), ROW(-34, AHOY_ERR_DISCONNECTED),
    ROW(-35, AHOY_ERR_CREDENTIALS), ROW(-36, AHOY_ERR_CERTIFICATE), ROW(-37, AHOY_ERR_NODE_TAKEN),
    ROW(-38, AHOY_ERR_NO_SERVICE), ROW(-39, AHOY_ERR_UNKNOWN_OUTCOME), ROW(-40, AHOY_ERR_FAILED),
    ROW(-41, AHOY_ERR_NO_KEY), ROW(-42, AHOY_ERR_KEY_EXISTS), ROW(-43, AHOY_ERR_REVISION),
    ROW(-44, AHOY_ERR_NO_STORE), ROW(-45, AHOY_ERR_REPLICAS),
};

enum { ROWS = sizeof table / sizeof table[0] };

int main(void) {
    for (int i = 0; i < ROWS; i++) {
        const char *text = ahoy_status_text(table[i].status);
        CHECK_EQ(table[i].status, table[i].number);
        CHECK_TEXT(ahoy_status_name(table[i].status), table[i].name);
        /* One sentence, and not the same for two. */
        size_t len = strlen(text);
        CHECK(len > 5 && isupper((unsigned char)text[0]));
        CHECK(text[len - 1] == '.' || strchr(text, ':') != NULL);
        for (int j = 0; j < i; j++) CHECK(strcmp(text, ahoy_status_text(table[j].status)) != 0);
        /* The strings live for ever. */
        CHECK(ahoy_status_text(table[i].status) == text);
    }
    const int32_t unknown[] = { 1, 2, -ROWS, -ROWS - 1, 1000, -1000, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        CHECK_TEXT(ahoy_status_name(unknown[i]), "AHOY_ERR_?");
        CHECK_TEXT(ahoy_status_text(unknown[i]), "Unknown status.");
    }

    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", AHOY_VERSION_MAJOR, AHOY_VERSION_MINOR,
             AHOY_VERSION_PATCH);
    CHECK_TEXT(AHOY_VERSION, version);
    CHECK_TEXT(ahoy_version(), AHOY_VERSION);
    return 0;
}
