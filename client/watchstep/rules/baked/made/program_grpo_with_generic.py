"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.program import SCOPE, Program, Site
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow

globals().update(SCOPE)
RULES = 3317659261


def advance(v, w, st, active):
    out = []
    time, event, suspicious = st.time, st.event, st.suspicious
    (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19, v20, v21, v22, v23, v24, v25, v26, _, _) = v
    (w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19, w20, w21, w22, w23, w24, w25, w26, w27, ) = w
    (g0, g1, g2, g3, g4, ) = st.calm
    if 5 in st.present: st.seen[0] = st.age
    if 20 in st.present: st.seen[1] = st.age
    if 0 in st.present: st.seen[2] = st.age
    if v0 - v0 == 0.0:
        w0.seen += 1
        if v0 == w0.last: w0.repeats += 1
        else: w0.last, w0.repeats = v0, 1
    t1 = abs(v2)
    t2 = st.nonfinite(0) if suspicious else g0
    t3 = w6.count if t2 is w6.steady else _nan if t2 is None else w6.push(t2, time)
    t4 = None if t2 is None else not t2
    t5 = w7.count if t4 is w7.steady else _nan if t4 is None else w7.push(t4, time)
    t6 = st.nonfinite(1) if suspicious else g1
    t7 = w8.count if t6 is w8.steady else _nan if t6 is None else w8.push(t6, time)
    t8 = None if t6 is None else not t6
    t9 = w9.count if t8 is w9.steady else _nan if t8 is None else w9.push(t8, time)
    t10 = (w10.ordered[4] * 0.5 + w10.ordered[5] * 0.5 if len(w10.ordered) == 10 else w10.median())
    t11 = (_nan if len(w12.values) < 10 else w12.high if w12.high >= w12.highs[-1] else w12.highs[-1])
    t12 = (w11.low if w11.seen >= 1.0 else _nan)
    t13 = (0.05 if 0.05 > t12 or 0.05 != 0.05 else t12)
    t14 = 2.0 * t13
    t15 = (w13.low if w13.seen >= 1.0 else _nan)
    t16 = (t15 if t15 > t14 or t15 != t15 else t14)
    t17 = (v5 > t16) if v5 == v5 and t16 == t16 else None
    t18 = w14.count if t17 is w14.steady else _nan if t17 is None else w14.push(t17, time)
    t19 = (v6 if v6 == v6 else 0.0)
    t20 = (t19 > 0.0) if t19 == t19 else None
    t21 = t20
    if not t20:
        t22 = st.nonfinite(2) if suspicious else g2
        t21 = True if t20 or t22 else (None if t20 is None or t22 is None else False)
    t23 = w15.count if t21 is w15.steady else _nan if t21 is None else w15.push(t21, time)
    t24 = w18.count if t21 is w18.steady else _nan if t21 is None else w18.push(t21, time)
    t25 = (v8 > 0.0) if v8 == v8 else None
    t26 = w20.count if t25 is w20.steady else _nan if t25 is None else w20.push(t25, time)
    t27 = (v7 if v7 == v7 else v3)
    t28 = (t27 < 1e-07) if t27 == t27 else None
    t29 = w21.count if t28 is w21.steady else _nan if t28 is None else w21.push(t28, time)
    if v5 - v5 == 0.0:
        w22.seen += 1
        if v5 == w22.last: w22.repeats += 1
        else: w22.last, w22.repeats = v5, 1
    t30 = (v9 > 10.0) if v9 == v9 else None
    t31 = (v9 < 1e-08) if v9 == v9 else None
    t32 = True if t30 or t31 else (None if t30 is None or t31 is None else False)
    t33 = w23.count if t32 is w23.steady else _nan if t32 is None else w23.push(t32, time)
    t34 = (w24.low if w24.seen >= 1.0 else _nan)
    t35 = 1.1 * t34
    t36 = (v10 > t35) if v10 == v10 and t35 == t35 else None
    t37 = w25.count if t36 is w25.steady else _nan if t36 is None else w25.push(t36, time)
    t38 = abs(t34)
    t39 = 0.01 * t38
    t40 = t34 - t39
    t41 = (v10 > t40) if v10 == v10 and t40 == t40 else None
    t42 = w26.count if t41 is w26.steady else _nan if t41 is None else w26.push(t41, time)
    if st.busy:
        pass
        t43 = _ratio((w27.ordered[9] * 0.5 + w27.ordered[10] * 0.5 if len(w27.ordered) == 20 else w27.median()), abs(v11))
        if active[0]:
            t44 = (v12 > 0.9) if v12 == v12 else None
            if t44 or active[0]:
                out.append((0, t44, True))
        elif (v12 > 0.9): out.append((0, True, True))
        if active[1]:
            t45 = (v13 < 0.0001) if v13 == v13 else None
            if t45 or active[1]:
                out.append((1, t45, True))
        elif (v13 < 0.0001): out.append((1, True, True))
        if active[2]:
            t46 = abs(v14)
            t47 = abs(v15)
            t48 = (t47 if t47 > t46 or t47 != t47 else t46)
            t49 = (_root(v16 - 1.0) if v16 >= 2.0 else _nan)
            t50 = 1.01 * t49
            t51 = (t48 > t50) if t48 == t48 and t50 == t50 else None
            if t51 or active[2]:
                out.append((2, t51, True))
        elif (_greatest(abs(v14), abs(v15)) > (1.01 * (_root(v16 - 1.0) if v16 >= 2.0 else _nan))): out.append((2, True, True))
        if active[3]:
            t52 = (w0.lasts(50.0) if v0 - v0 == 0.0 else None)
            if t52 or active[3]:
                out.append((3, t52, True))
        elif (w0.repeats >= 50 and v0 - v0 == 0.0): out.append((3, True, True))
        if active[4]:
            t53 = (v1 > 1.0 or v1 < -1.0) if v1 == v1 else None
            t54 = t53
            if t53 is not False:
                t55 = w1.times_largest(v1, 10.0)
                t56 = (t55 > 10.0) if t55 == t55 else None
                t54 = t56 if t53 else (False if t53 is False or t56 is False else None)
            if t54 or active[4]:
                out.append((4, t54, True))
        elif ((v1 > 1.0 or v1 < -1.0) and ((w1.times_largest(v1, 10.0)) > 10.0)): out.append((4, True, True))
        if active[5]:
            t57 = (v17 > 0.3) if v17 == v17 else None
            if t57 or active[5]:
                out.append((5, t57, True))
        elif (v17 > 0.3): out.append((5, True, True))
        if active[6]:
            t58 = (v18 > 0.5) if v18 == v18 else None
            if t58 or active[6]:
                out.append((6, t58, True))
        elif (v18 > 0.5): out.append((6, True, True))
        if active[7]:
            t59 = (-0.05 < v2 < 0.05) if v2 == v2 else None
            t60 = t59
            if t59 is not False:
                t61 = (_nan if len(w2.values) < 10 else w2.high if w2.high >= w2.highs[-1] else w2.highs[-1])
                t62 = 0.1 * t61
                t63 = (t1 < t62) if t1 == t1 and t62 == t62 else None
                t60 = t63 if t59 else (False if t59 is False or t63 is False else None)
            if t60 or active[7]:
                out.append((7, t60, True))
        elif ((-0.05 < v2 < 0.05) and (t1 < (0.1 * ((_nan if len(w2.values) < 10 else w2.high if w2.high >= w2.highs[-1] else w2.highs[-1]))))): out.append((7, True, True))
        if active[8]:
            t64 = (v2 > 2.0 or v2 < -2.0) if v2 == v2 else None
            t65 = t64
            if t64 is not False:
                t66 = _ratio(abs(v2), (w3.ordered[24] * 0.5 + w3.ordered[25] * 0.5 if len(w3.ordered) == 50 else w3.median()))
                t67 = (t66 > 3.0) if t66 == t66 else None
                t65 = t67 if t64 else (False if t64 is False or t67 is False else None)
            if t65 or active[8]:
                out.append((8, t65, True))
        elif ((v2 > 2.0 or v2 < -2.0) and ((_ratio(abs(v2), (w3.ordered[24] * 0.5 + w3.ordered[25] * 0.5 if len(w3.ordered) == 50 else w3.median()))) > 3.0)): out.append((8, True, True))
        if active[9]:
            t68 = (v3 < _inf) if v3 == v3 else None
            t69 = t68
            if t68 is not False:
                t70 = _ratio(abs(v3), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))
                t71 = (t70 > 10.0) if t70 == t70 else None
                t69 = t71 if t68 else (False if t68 is False or t71 is False else None)
            if t69 or active[9]:
                out.append((9, t69, True))
        elif ((v3 < _inf) and ((_ratio(abs(v3), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))) > 10.0)): out.append((9, True, True))
        if active[10]:
            t72 = (v19 > 0.5) if v19 == v19 else None
            if t72 or active[10]:
                out.append((10, t72, True))
        elif (v19 > 0.5): out.append((10, True, True))
        if active[11]:
            t73 = _ratio((w5.ordered[24] * 0.5 + w5.ordered[25] * 0.5 if len(w5.ordered) == 50 else w5.median()), abs(v4))
            t74 = (t73 > 5.0) if t73 == t73 else None
            if t74 or active[11]:
                out.append((11, t74, True))
        elif ((_ratio((w5.ordered[24] * 0.5 + w5.ordered[25] * 0.5 if len(w5.ordered) == 50 else w5.median()), abs(v4))) > 5.0): out.append((11, True, True))
        if active[12]:
            t75 = st.nonfinite(3) if suspicious else g3
            if t75 or active[12]:
                out.append((12, t75, True))
        elif ((st.nonfinite(3) if suspicious else g3)): out.append((12, True, True))
        if active[13]:
            t76 = (t5 >= 1.0) if t5 == t5 else None
            t77 = t76
            if t76 is not False:
                t78 = t2
                if t2 is not False:
                    t79 = (t3 >= 2.0) if t3 == t3 else None
                    t78 = t79 if t2 else (False if t2 is False or t79 is False else None)
                t77 = t78 if t76 else (False if t76 is False or t78 is False else None)
            if t77 or active[13]:
                out.append((13, t77, True))
        elif ((t2) and (t3 >= 2.0) and (t5 >= 1.0)): out.append((13, True, True))
        if active[14]:
            t80 = st.seen[1] > 0
            t81 = None if t80 is None else not t80
            t82 = t81
            if t81 is not False:
                t83 = st.seen[0] > 0
                t84 = None if t83 is None else not t83
                t85 = t84
                if t84 is not False:
                    t86 = (t3 >= 5.0) if t3 == t3 else None
                    t87 = t86
                    if t86 is not False:
                        t88 = (t5 >= 1.0) if t5 == t5 else None
                        t87 = t88 if t86 else (False if t86 is False or t88 is False else None)
                    t85 = t87 if t84 else (False if t84 is False or t87 is False else None)
                t82 = t85 if t81 else (False if t81 is False or t85 is False else None)
            if t82 or active[14]:
                out.append((14, t82, True))
        elif ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t3 >= 5.0) and (t5 >= 1.0)): out.append((14, True, True))
        if active[15]:
            t89 = (t7 >= 48.0) if t7 == t7 else None
            t90 = t89
            if t89 is not False:
                t91 = (t9 >= 20.0) if t9 == t9 else None
                t90 = t91 if t89 else (False if t89 is False or t91 is False else None)
            if t90 or active[15]:
                out.append((15, t90, True))
        elif ((t7 >= 48.0) and (t9 >= 20.0)): out.append((15, True, True))
        if active[16]:
            t92 = (t18 >= 3.0) if t18 == t18 else None
            c16 = t92
            if c16 is not False:
                t93 = st.seen[1] > 0
                t94 = st.seen[2] > 0
                t95 = True if t93 or t94 else (None if t93 is None or t94 is None else False)
                if t95: c16 = False
            if c16 or active[16]:
                out.append((16, c16, True))
        elif (t18 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((16, True, True))
        if active[17]:
            c17 = t21
            if c17 is not False:
                t96 = 21 in st.present
                t97 = t96
                if t96 is not False:
                    t98 = (t19 == 0.0) if t19 == t19 else None
                    t97 = t98 if t96 else (False if t96 is False or t98 is False else None)
                if t97: c17 = False
            if c17 or active[17]:
                out.append((17, c17, True))
        elif ((t19 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((21 in st.present)) and (t19 == 0.0)): out.append((17, True, True))
        if active[18]:
            t99 = (t24 >= 17.0) if t24 == t24 else None
            t100 = t99
            if not t99:
                t101 = (t23 >= 3.0) if t23 == t23 else None
                t102 = t101
                if t101 is not False:
                    t103 = (w16.low if w16.seen >= 5.0 else _nan)
                    t104 = (t103 < _inf) if t103 == t103 else None
                    t105 = t104
                    if not t104:
                        t106 = (w17.low if w17.seen >= 5.0 else _nan)
                        t107 = (t106 < _inf) if t106 == t106 else None
                        t105 = True if t104 or t107 else (None if t104 is None or t107 is None else False)
                    t102 = t105 if t101 else (False if t101 is False or t105 is False else None)
                t100 = True if t99 or t102 else (None if t99 is None or t102 is None else False)
            if t100 or active[18]:
                out.append((18, t100, True))
        elif ((t24 >= 17.0) or ((t23 >= 3.0) and ((((w16.low if w16.seen >= 5.0 else _nan)) < _inf) or (((w17.low if w17.seen >= 5.0 else _nan)) < _inf)))): out.append((18, True, True))
        if active[19]:
            t108 = (v5 == 0.0) if v5 == v5 else None
            t109 = t108
            if t108 is not False:
                t110 = st.nonfinite(2) if suspicious else g2
                t109 = t110 if t108 else (False if t108 is False or t110 is False else None)
            if t109 or active[19]:
                out.append((19, t109, True))
        elif ((v5 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((19, True, True))
        if active[20]:
            t111 = st.nonfinite(4) if suspicious else g4
            t112 = t111
            if t111 is not False:
                t113 = w19.last
                t114 = abs(t113)
                t115 = (t114 >= 0.0) if t114 == t114 else None
                t112 = t115 if t111 else (False if t111 is False or t115 is False else None)
            if t112 or active[20]:
                out.append((20, t112, True))
        elif (((st.nonfinite(4) if suspicious else g4)) and (abs((w19.last)) >= 0.0)): out.append((20, True, True))
        if active[21]:
            t116 = (v22 if v22 == v22 else v23)
            t117 = (v23 if v23 == v23 else v22)
            t118 = (t117 if t117 > t116 or t117 != t117 else t116)
            t119 = (t118 > 0.0) if t118 == t118 else None
            if t119 or active[21]:
                out.append((21, t119, True))
        elif (_greatest((v22 if v22 == v22 else v23), (v23 if v23 == v23 else v22)) > 0.0): out.append((21, True, True))
        if active[22]:
            t120 = (v24 > 0.0) if v24 == v24 else None
            if t120 or active[22]:
                out.append((22, t120, True))
        elif (v24 > 0.0): out.append((22, True, True))
        if active[23]:
            if t25 or active[23]:
                out.append((23, t25, True))
        elif (v8 > 0.0): out.append((23, True, True))
        if active[24]:
            t121 = (t26 >= 25.0) if t26 == t26 else None
            if t121 or active[24]:
                out.append((24, t121, True))
        elif (t26 >= 25.0): out.append((24, True, True))
        if active[25]:
            t122 = (t29 >= 10.0) if t29 == t29 else None
            if t122 or active[25]:
                out.append((25, t122, True))
        elif (t29 >= 10.0): out.append((25, True, True))
        if active[26]:
            t123 = (w22.lasts(20.0) if v5 - v5 == 0.0 else None)
            if t123 or active[26]:
                out.append((26, t123, True))
        elif (w22.repeats >= 20 and v5 - v5 == 0.0): out.append((26, True, True))
        if active[27]:
            t124 = (t33 >= 5.0) if t33 == t33 else None
            if t124 or active[27]:
                out.append((27, t124, True))
        elif (t33 >= 5.0): out.append((27, True, True))
        if active[28]:
            t125 = (v25 > 0.5) if v25 == v25 else None
            if t125 or active[28]:
                out.append((28, t125, True))
        elif (v25 > 0.5): out.append((28, True, True))
        if active[29]:
            t126 = (v26 > 0.5) if v26 == v26 else None
            if t126 or active[29]:
                out.append((29, t126, True))
        elif (v26 > 0.5): out.append((29, True, True))
        if active[30]:
            t127 = (t34 > 0.0) if t34 == t34 else None
            t128 = t127
            if t127 is not False:
                t129 = (t37 >= 3.0) if t37 == t37 else None
                t128 = t129 if t127 else (False if t127 is False or t129 is False else None)
            if t128 or active[30]:
                out.append((30, t128, True))
        elif ((t34 > 0.0) and (t37 >= 3.0)): out.append((30, True, True))
        if active[31]:
            t130 = (t42 >= 10.0) if t42 == t42 else None
            if t130 or active[31]:
                out.append((31, t130, True))
        elif (t42 >= 10.0): out.append((31, True, True))
        if active[32]:
            t131 = (t43 > 2.0) if t43 == t43 else None
            if t131 or active[32]:
                out.append((32, t131, True))
        elif (t43 > 2.0): out.append((32, True, True))
        if active[33]:
            t132 = (t43 > 5.0) if t43 == t43 else None
            if t132 or active[33]:
                out.append((33, t132, True))
        elif (t43 > 5.0): out.append((33, True, True))
        if active[34]:
            t133 = event is not None and st.has_event('failed')
            if t133 or active[34]:
                out.append((34, t133, True))
        elif ((event is not None and st.has_event('failed'))): out.append((34, True, True))
        if active[35]:
            t134 = False
            if t134 or active[35]:
                out.append((35, t134, True))
        elif (False): out.append((35, True, True))
        if active[36]:
            t135 = event is not None and st.has_logged('*non-finite*')
            t136 = t135
            if not t135:
                t137 = event is not None and st.has_logged('*nan or inf*')
                t136 = True if t135 or t137 else (None if t135 is None or t137 is None else False)
            if t136 or active[36]:
                out.append((36, t136, True))
        elif (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((36, True, True))
        if active[37]:
            t138 = event is not None and st.has_logged('*gradient clipping applied with norm*')
            if t138 or active[37]:
                out.append((37, t138, True))
        elif ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((37, True, True))
        if active[38]:
            t139 = event is not None and st.has_logged('*checkpoint corrupted*')
            t140 = t139
            if not t139:
                t141 = event is not None and st.has_logged('*checkpoint is corrupt*')
                t140 = True if t139 or t141 else (None if t139 is None or t141 is None else False)
            if t140 or active[38]:
                out.append((38, t140, True))
        elif (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((38, True, True))
    else:
        pass
        t142 = _ratio((w27.ordered[9] * 0.5 + w27.ordered[10] * 0.5 if len(w27.ordered) == 20 else w27.median()), abs(v11))
        if (v12 > 0.9): out.append((0, True, True))
        if (v13 < 0.0001): out.append((1, True, True))
        if (_greatest(abs(v14), abs(v15)) > (1.01 * (_root(v16 - 1.0) if v16 >= 2.0 else _nan))): out.append((2, True, True))
        if (w0.repeats >= 50 and v0 - v0 == 0.0): out.append((3, True, True))
        if ((v1 > 1.0 or v1 < -1.0) and ((w1.times_largest(v1, 10.0)) > 10.0)): out.append((4, True, True))
        if (v17 > 0.3): out.append((5, True, True))
        if (v18 > 0.5): out.append((6, True, True))
        if ((-0.05 < v2 < 0.05) and (t1 < (0.1 * ((_nan if len(w2.values) < 10 else w2.high if w2.high >= w2.highs[-1] else w2.highs[-1]))))): out.append((7, True, True))
        if ((v2 > 2.0 or v2 < -2.0) and ((_ratio(abs(v2), (w3.ordered[24] * 0.5 + w3.ordered[25] * 0.5 if len(w3.ordered) == 50 else w3.median()))) > 3.0)): out.append((8, True, True))
        if ((v3 < _inf) and ((_ratio(abs(v3), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))) > 10.0)): out.append((9, True, True))
        if (v19 > 0.5): out.append((10, True, True))
        if ((_ratio((w5.ordered[24] * 0.5 + w5.ordered[25] * 0.5 if len(w5.ordered) == 50 else w5.median()), abs(v4))) > 5.0): out.append((11, True, True))
        if ((st.nonfinite(3) if suspicious else g3)): out.append((12, True, True))
        if ((t2) and (t3 >= 2.0) and (t5 >= 1.0)): out.append((13, True, True))
        if ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t3 >= 5.0) and (t5 >= 1.0)): out.append((14, True, True))
        if ((t7 >= 48.0) and (t9 >= 20.0)): out.append((15, True, True))
        if (t18 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((16, True, True))
        if ((t19 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((21 in st.present)) and (t19 == 0.0)): out.append((17, True, True))
        if ((t24 >= 17.0) or ((t23 >= 3.0) and ((((w16.low if w16.seen >= 5.0 else _nan)) < _inf) or (((w17.low if w17.seen >= 5.0 else _nan)) < _inf)))): out.append((18, True, True))
        if ((v5 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((19, True, True))
        if (((st.nonfinite(4) if suspicious else g4)) and (abs((w19.last)) >= 0.0)): out.append((20, True, True))
        if (_greatest((v22 if v22 == v22 else v23), (v23 if v23 == v23 else v22)) > 0.0): out.append((21, True, True))
        if (v24 > 0.0): out.append((22, True, True))
        if (v8 > 0.0): out.append((23, True, True))
        if (t26 >= 25.0): out.append((24, True, True))
        if (t29 >= 10.0): out.append((25, True, True))
        if (w22.repeats >= 20 and v5 - v5 == 0.0): out.append((26, True, True))
        if (t33 >= 5.0): out.append((27, True, True))
        if (v25 > 0.5): out.append((28, True, True))
        if (v26 > 0.5): out.append((29, True, True))
        if ((t34 > 0.0) and (t37 >= 3.0)): out.append((30, True, True))
        if (t42 >= 10.0): out.append((31, True, True))
        if (t142 > 2.0): out.append((32, True, True))
        if (t142 > 5.0): out.append((33, True, True))
        if ((event is not None and st.has_event('failed'))): out.append((34, True, True))
        if (False): out.append((35, True, True))
        if (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((36, True, True))
        if ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((37, True, True))
        if (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((38, True, True))
    if v1 - v1 == 0.0:
        w1.seen += 1
        w1.last = v1
        if not w1.low <= v1 <= w1.largest: w1.widen(v1)
    if t1 - t1 == 0.0:
        if len(w2.highs) == 1: w2.turn()
        w2.values.append(t1)
        w2.highs.pop()
        w2.lows.pop()
        if t1 >= w2.high: w2.high = t1
        if t1 <= w2.low: w2.low = t1
    if v2 - v2 == 0.0:
        _x = abs(v2)
        w3.queue.append(_x)
        _insort(w3.ordered, _x)
        if len(w3.queue) > 50: del w3.ordered[_bisect(w3.ordered, w3.queue.popleft())]
    if v3 - v3 == 0.0:
        _x = abs(v3)
        w4.queue.append(_x)
        _insort(w4.ordered, _x)
        if len(w4.queue) > 50: del w4.ordered[_bisect(w4.ordered, w4.queue.popleft())]
        w16.seen += 1
        w16.last = v3
        if not w16.low <= v3 <= w16.largest: w16.widen(v3)
    if v4 - v4 == 0.0:
        _x = abs(v4)
        w5.queue.append(_x)
        _insort(w5.ordered, _x)
        if len(w5.queue) > 50: del w5.ordered[_bisect(w5.ordered, w5.queue.popleft())]
    if v5 - v5 == 0.0:
        w10.queue.append(v5)
        _insort(w10.ordered, v5)
        if len(w10.queue) > 10: del w10.ordered[_bisect(w10.ordered, w10.queue.popleft())]
        if len(w12.highs) == 1: w12.turn()
        w12.values.append(v5)
        w12.highs.pop()
        w12.lows.pop()
        if v5 >= w12.high: w12.high = v5
        if v5 <= w12.low: w12.low = v5
    if t10 - t10 == 0.0:
        w11.seen += 1
        w11.last = t10
        if not w11.low <= t10 <= w11.largest: w11.widen(t10)
    if t11 - t11 == 0.0:
        w13.seen += 1
        w13.last = t11
        if not w13.low <= t11 <= w13.largest: w13.widen(t11)
    if v7 - v7 == 0.0:
        w17.seen += 1
        w17.last = v7
        if not w17.low <= v7 <= w17.largest: w17.widen(v7)
    if v0 - v0 == 0.0:
        w19.seen += 1
        w19.last = v0
        if not w19.low <= v0 <= w19.largest: w19.widen(v0)
    if v10 - v10 == 0.0:
        w24.seen += 1
        w24.last = v10
        if not w24.low <= v10 <= w24.largest: w24.widen(v10)
    if v11 - v11 == 0.0:
        _x = abs(v11)
        w27.queue.append(_x)
        _insort(w27.ordered, _x)
        if len(w27.queue) > 20: del w27.ordered[_bisect(w27.ordered, w27.queue.popleft())]
    return out


PROGRAM = Program(
    slots=('rollout/ep_rew_mean', 'train/reference_kl', 'train/entropy_loss', 'train/grad_norm', 'grpo/length_mean', 'train/loss', 'guard/nonfinite_gradients', 'train/grad_norm_max', 'guard/skipped', 'guard/update_ratio', 'eval/loss', 'time/fps', 'train/zero_std_share', 'train/reward_std', 'grpo/advantages_max', 'grpo/advantages_min', 'train/group_size', 'train/approx_kl', 'train/clip_fraction', 'grpo/truncated_share', 'train/policy_loss', 'train/loss_scale', 'checkpoint/nonfinite_tensors', 'guard/nonfinite_parameters', 'guard/frozen_parameters', 'guard/dead_units', 'guard/saturated_units', ),
    sites=(Site(key='RepeatWindow(rollout/ep_rew_mean, None, now)', make=RepeatWindow, span=Span()), Site(key='RecordWindow(train/reference_kl, None)', make=RecordWindow, span=Span()), Site(key='ExtremeWindow(abs(train/entropy_loss), 200)', make=ExtremeWindow, span=Span(updates=200)), Site(key='MedianWindow(abs(train/entropy_loss), 50)', make=MedianWindow, span=Span(updates=50)), Site(key='MedianWindow(abs(train/grad_norm), 50)', make=MedianWindow, span=Span(updates=50)), Site(key='MedianWindow(abs(grpo/length_mean), 50)', make=MedianWindow, span=Span(updates=50)), Site(key='CountWindow(nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow(not (nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='CountWindow(nonfinite(*), 50)', make=CountWindow, span=Span(updates=50)), Site(key='CountWindow(not (nonfinite(*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='MedianWindow(train/loss, 10)', make=MedianWindow, span=Span(updates=10)), Site(key='RecordWindow(median(train/loss, 10), None)', make=RecordWindow, span=Span()), Site(key='ExtremeWindow(train/loss, 50)', make=ExtremeWindow, span=Span(updates=50)), Site(key='RecordWindow(max(train/loss, 50), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((train/loss > greatest((2.0 * greatest(lowest(median(train/loss, 10), 1.0), 0.05)), lowest(max(train/loss, 50), 1.0))), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(train/grad_norm, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/grad_norm_max, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 20)', make=CountWindow, span=Span(updates=20)), Site(key='RecordWindow(rollout/ep_rew_mean, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((guard/skipped > 0.0), 25)', make=CountWindow, span=Span(updates=25)), Site(key='CountWindow((known(train/grad_norm_max, train/grad_norm) < 1e-07), 10)', make=CountWindow, span=Span(updates=10)), Site(key='RepeatWindow(train/loss, None, now)', make=RepeatWindow, span=Span()), Site(key='CountWindow(((guard/update_ratio > 10.0) or (guard/update_ratio < 1e-08)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(eval/loss, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((eval/loss > (1.1 * lowest(eval/loss, 1.0))), 3)', make=CountWindow, span=Span(updates=3)), Site(key='CountWindow((eval/loss > (lowest(eval/loss, 1.0) - (0.01 * abs(lowest(eval/loss, 1.0))))), 10)', make=CountWindow, span=Span(updates=10)), Site(key='MedianWindow(abs(time/fps), 20)', make=MedianWindow, span=Span(updates=20)), ),
    globs=(('*loss*', '*Loss*', '*LOSS*', '*nll*', '*NLL*', '*perplexity*', '*ppl', '*entropy', '*xent*', '*mse', '*MSE*', '*elbo*', '*ELBO*', '*objective', '*bits_per_*', ), ('*', ), ('train/grad_norm', 'train/grad_norm_max', ), ('train/loss', 'train/policy_loss', 'train/value_loss', 'train/entropy_loss', 'train/approx_kl', 'train/std', 'train/advantages_std_raw', 'train/advantages_mean_raw', 'train/advantages_norm_max_abs', 'train/advantages_norm_mean', ), ('rollout/ep_rew_mean', ), ),
    watched=(5, 20, 0, ),
    metrics=((12, ), (13, ), (14, 15, 16, ), (0, ), (1, ), (17, ), (18, ), (2, ), (2, ), (3, ), (19, ), (4, ), (), (), (5, 20, ), (), (5, ), (6, ), (6, 3, 7, ), (5, ), (0, ), (22, 23, ), (24, ), (8, ), (8, ), (7, 3, ), (5, ), (9, ), (25, ), (26, ), (10, ), (10, ), (11, ), (11, ), (), (), (), (), (), ),
    looked_over=((), (), (), (), (), (), (), (), (), (), (), (), (3, ), (0, 0, 0, ), (0, 0, ), (1, 1, ), (), (2, ), (2, 2, ), (2, ), (4, ), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), ),
    clocked=(35, ),
    advance=advance,
)
