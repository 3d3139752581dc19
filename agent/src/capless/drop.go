//go:build race

// Package capless takes capabilities from the process before it has a second thread, if it is one of the test program's
// that are agents: see TestMain, isolated and Protect.
package capless

/*
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void drop(int capability) {
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	const __u32 keep = ~(1u << capability);
	prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, capability, 0, 0);
	if (syscall(SYS_capget, &header, sets) != 0)
		abort();
	sets[0].effective &= keep;
	sets[0].permitted &= keep;
	sets[0].inheritable &= keep;
	if (syscall(SYS_capset, &header, sets) != 0)
		abort();
}

__attribute__((constructor)) static void drop_all(void) {
	if (getenv("AGENT_UNDER_TEST") || getenv("AGENT_TEST_ISOLATED")) {
		drop(CAP_SYS_PTRACE);
		drop(CAP_AUDIT_WRITE);
	}
}
*/
import "C"
