#include "textflag.h"

// func clone(flags, stack uintptr, l *launch, command uintptr) (pid uintptr)
TEXT ·clone(SB), NOSPLIT, $16-40
	MOVD	flags+0(FP), R0
	MOVD	stack+8(FP), R1
	MOVD	l+16(FP), R20
	MOVD	command+24(FP), R21
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$220, R8
	SVC
	CBZ	R0, child
	MOVD	R0, pid+32(FP)
	RET

child:	// on the new stack; there is no way back
	MOVD	R20, 8(RSP)
	// By address: the linker would take a direct call, since the shim calls clone
	// again, for a recursion without end.
	MOVD	$·runShim(SB), R0
	CBZ	R21, enter
	MOVD	$·runCommand(SB), R0

enter:
	CALL	(R0)
	UNDEF
