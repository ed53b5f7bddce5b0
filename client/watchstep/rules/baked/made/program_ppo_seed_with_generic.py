"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.program import SCOPE, Program, Site
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow

globals().update(SCOPE)
RULES = 3324636240


def advance(v, w, st, active):
    out = []
    time, event, suspicious = st.time, st.event, st.suspicious
    (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18, v19, v20, v21, v22, v23, _, _) = v
    (w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19, w20, w21, w22, w23, w24, w25, ) = w
    (g0, g1, g2, g3, g4, g5, ) = st.calm
    if 6 in st.present: st.seen[0] = st.age
    if 0 in st.present: st.seen[1] = st.age
    if 4 in st.present: st.seen[2] = st.age
    if v4 - v4 == 0.0:
        w4.seen += 1
        if v4 == w4.last: w4.repeats += 1
        else: w4.last, w4.repeats = v4, 1
    t1 = st.nonfinite(0) if suspicious else g0
    t2 = w6.count if t1 is w6.steady else _nan if t1 is None else w6.push(t1, time)
    t3 = None if t1 is None else not t1
    t4 = w7.count if t3 is w7.steady else _nan if t3 is None else w7.push(t3, time)
    t5 = st.nonfinite(1) if suspicious else g1
    t6 = w8.count if t5 is w8.steady else _nan if t5 is None else w8.push(t5, time)
    t7 = None if t5 is None else not t5
    t8 = w9.count if t7 is w9.steady else _nan if t7 is None else w9.push(t7, time)
    t9 = (w10.ordered[4] * 0.5 + w10.ordered[5] * 0.5 if len(w10.ordered) == 10 else w10.median())
    t10 = (_nan if len(w12.values) < 10 else w12.high if w12.high >= w12.highs[-1] else w12.highs[-1])
    t11 = (w11.low if w11.seen >= 1.0 else _nan)
    t12 = (0.05 if 0.05 > t11 or 0.05 != 0.05 else t11)
    t13 = 2.0 * t12
    t14 = (w13.low if w13.seen >= 1.0 else _nan)
    t15 = (t14 if t14 > t13 or t14 != t14 else t13)
    t16 = (v6 > t15) if v6 == v6 and t15 == t15 else None
    t17 = w14.count if t16 is w14.steady else _nan if t16 is None else w14.push(t16, time)
    t18 = (v7 if v7 == v7 else 0.0)
    t19 = (t18 > 0.0) if t18 == t18 else None
    t20 = t19
    if not t19:
        t21 = st.nonfinite(2) if suspicious else g2
        t20 = True if t19 or t21 else (None if t19 is None or t21 is None else False)
    t22 = w15.count if t20 is w15.steady else _nan if t20 is None else w15.push(t20, time)
    t23 = w17.count if t20 is w17.steady else _nan if t20 is None else w17.push(t20, time)
    t24 = (v9 > 0.0) if v9 == v9 else None
    t25 = w19.count if t24 is w19.steady else _nan if t24 is None else w19.push(t24, time)
    t26 = (v8 if v8 == v8 else v2)
    t27 = (t26 < 1e-07) if t26 == t26 else None
    t28 = w20.count if t27 is w20.steady else _nan if t27 is None else w20.push(t27, time)
    if v6 - v6 == 0.0:
        w21.seen += 1
        if v6 == w21.last: w21.repeats += 1
        else: w21.last, w21.repeats = v6, 1
    t29 = (v10 > 10.0) if v10 == v10 else None
    t30 = (v10 < 1e-08) if v10 == v10 else None
    t31 = True if t29 or t30 else (None if t29 is None or t30 is None else False)
    t32 = w22.count if t31 is w22.steady else _nan if t31 is None else w22.push(t31, time)
    t33 = (w23.low if w23.seen >= 1.0 else _nan)
    t34 = 1.1 * t33
    t35 = (v11 > t34) if v11 == v11 and t34 == t34 else None
    t36 = w24.count if t35 is w24.steady else _nan if t35 is None else w24.push(t35, time)
    t37 = abs(t33)
    t38 = 0.01 * t37
    t39 = t33 - t38
    t40 = (v11 > t39) if v11 == v11 and t39 == t39 else None
    t41 = w25.count if t40 is w25.steady else _nan if t40 is None else w25.push(t40, time)
    if st.busy:
        pass
        t42 = _ratio((w5.ordered[9] * 0.5 + w5.ordered[10] * 0.5 if len(w5.ordered) == 20 else w5.median()), abs(v5))
        if active[0]:
            t43 = (v3 > 100.0) if v3 == v3 else None
            if t43 or active[0]:
                out.append((0, t43, True))
        elif (v3 > 100.0): out.append((0, True, True))
        if active[1]:
            t44 = (v12 < 0.0001) if v12 == v12 else None
            if t44 or active[1]:
                out.append((1, t44, True))
        elif (v12 < 0.0001): out.append((1, True, True))
        if active[2]:
            t45 = (v2 > 1000.0) if v2 == v2 else None
            if t45 or active[2]:
                out.append((2, t45, True))
        elif (v2 > 1000.0): out.append((2, True, True))
        if active[3]:
            t46 = (v13 < -0.5) if v13 == v13 else None
            if t46 or active[3]:
                out.append((3, t46, True))
        elif (v13 < -0.5): out.append((3, True, True))
        if active[4]:
            t47 = (v0 > 10.0) if v0 == v0 else None
            t48 = (v1 > 10.0) if v1 == v1 else None
            t49 = True if t47 or t48 else (None if t47 is None or t48 is None else False)
            if t49 or active[4]:
                out.append((4, t49, True))
        elif ((v0 > 10.0) or (v1 > 10.0)): out.append((4, True, True))
        if active[5]:
            t50 = (v0 > 10.0 or v0 < -10.0) if v0 == v0 else None
            if t50 or active[5]:
                out.append((5, t50, True))
        elif (v0 > 10.0 or v0 < -10.0): out.append((5, True, True))
        if active[6]:
            t51 = (v12 < 0.0001) if v12 == v12 else None
            t52 = (v3 > 100.0) if v3 == v3 else None
            t53 = t52 if t51 else (False if t51 is False or t52 is False else None)
            if t53 or active[6]:
                out.append((6, t53, True))
        elif ((v12 < 0.0001) and (v3 > 100.0)): out.append((6, True, True))
        if active[7]:
            t54 = 2 in st.present
            t55 = None if t54 is None else not t54
            t56 = t55
            if not t55:
                t57 = w2.last
                t58 = 100.0 * t57
                t59 = (v2 > t58) if v2 == v2 and t58 == t58 else None
                t56 = True if t55 or t59 else (None if t55 is None or t59 is None else False)
            t60 = t56
            if t56 is not False:
                t61 = abs(v0)
                t62 = w0.last
                t63 = abs(t62)
                t64 = 100.0 * t63
                t65 = (t61 > t64) if t61 == t61 and t64 == t64 else None
                t66 = t65
                if t65 is not False:
                    t67 = abs(v1)
                    t68 = w1.last
                    t69 = abs(t68)
                    t70 = 100.0 * t69
                    t71 = (t67 > t70) if t67 == t67 and t70 == t70 else None
                    t66 = t71 if t65 else (False if t65 is False or t71 is False else None)
                t60 = t66 if t56 else (False if t56 is False or t66 is False else None)
            if t60 or active[7]:
                out.append((7, t60, True))
        elif ((abs(v0) > (100.0 * abs((w0.last)))) and (abs(v1) > (100.0 * abs((w1.last)))) and ((((2 in st.present)) is False) or (v2 > (100.0 * (w2.last))))): out.append((7, True, True))
        if active[8]:
            t72 = w3.last
            t73 = 100.0 * t72
            t74 = (v3 > t73) if v3 == v3 and t73 == t73 else None
            if t74 or active[8]:
                out.append((8, t74, True))
        elif (v3 > (100.0 * (w3.last))): out.append((8, True, True))
        if active[9]:
            t75 = (v14 > 0.9) if v14 == v14 else None
            if t75 or active[9]:
                out.append((9, t75, True))
        elif (v14 > 0.9): out.append((9, True, True))
        if active[10]:
            t76 = (v13 < 0.0) if v13 == v13 else None
            if t76 or active[10]:
                out.append((10, t76, True))
        elif (v13 < 0.0): out.append((10, True, True))
        if active[11]:
            t77 = (v15 < -5.0) if v15 == v15 else None
            if t77 or active[11]:
                out.append((11, t77, True))
        elif (v15 < -5.0): out.append((11, True, True))
        if active[12]:
            t78 = st.nonfinite(3) if suspicious else g3
            if t78 or active[12]:
                out.append((12, t78, True))
        elif ((st.nonfinite(3) if suspicious else g3)): out.append((12, True, True))
        if active[13]:
            t79 = (v12 >= 1e-08) if v12 == v12 else None
            t80 = (v12 <= 0.0001) if v12 == v12 else None
            t81 = t80 if t79 else (False if t79 is False or t80 is False else None)
            if t81 or active[13]:
                out.append((13, t81, True))
        elif ((v12 >= 1e-08) and (v12 <= 0.0001)): out.append((13, True, True))
        if active[14]:
            t82 = (w4.lasts(20.0) if v4 - v4 == 0.0 else None)
            if t82 or active[14]:
                out.append((14, t82, True))
        elif (w4.repeats >= 20 and v4 - v4 == 0.0): out.append((14, True, True))
        if active[15]:
            t83 = (t42 >= 2.0) if t42 == t42 else None
            if t83 or active[15]:
                out.append((15, t83, True))
        elif (t42 >= 2.0): out.append((15, True, True))
        if active[16]:
            t84 = (v12 < 1e-08) if v12 == v12 else None
            t85 = t84
            if not t84:
                t86 = (v16 if v16 == v16 else 0.0)
                t87 = (t86 > 0.0) if t86 == t86 else None
                t85 = True if t84 or t87 else (None if t84 is None or t87 is None else False)
            if t85 or active[16]:
                out.append((16, t85, True))
        elif ((v12 < 1e-08) or ((v16 if v16 == v16 else 0.0) > 0.0)): out.append((16, True, True))
        if active[17]:
            t88 = (v3 >= 10.0) if v3 == v3 else None
            t89 = t88
            if not t88:
                t90 = (v17 if v17 == v17 else 0.0)
                t91 = (t90 > 0.0) if t90 == t90 else None
                t89 = True if t88 or t91 else (None if t88 is None or t91 is None else False)
            if t89 or active[17]:
                out.append((17, t89, True))
        elif ((v3 >= 10.0) or ((v17 if v17 == v17 else 0.0) > 0.0)): out.append((17, True, True))
        if active[18]:
            t92 = st.nonfinite(4) if suspicious else g4
            if t92 or active[18]:
                out.append((18, t92, True))
        elif ((st.nonfinite(4) if suspicious else g4)): out.append((18, True, True))
        if active[19]:
            t93 = (t4 >= 1.0) if t4 == t4 else None
            t94 = t93
            if t93 is not False:
                t95 = t1
                if t1 is not False:
                    t96 = (t2 >= 2.0) if t2 == t2 else None
                    t95 = t96 if t1 else (False if t1 is False or t96 is False else None)
                t94 = t95 if t93 else (False if t93 is False or t95 is False else None)
            if t94 or active[19]:
                out.append((19, t94, True))
        elif ((t1) and (t2 >= 2.0) and (t4 >= 1.0)): out.append((19, True, True))
        if active[20]:
            t97 = st.seen[1] > 0
            t98 = None if t97 is None else not t97
            t99 = t98
            if t98 is not False:
                t100 = st.seen[0] > 0
                t101 = None if t100 is None else not t100
                t102 = t101
                if t101 is not False:
                    t103 = (t2 >= 5.0) if t2 == t2 else None
                    t104 = t103
                    if t103 is not False:
                        t105 = (t4 >= 1.0) if t4 == t4 else None
                        t104 = t105 if t103 else (False if t103 is False or t105 is False else None)
                    t102 = t104 if t101 else (False if t101 is False or t104 is False else None)
                t99 = t102 if t98 else (False if t98 is False or t102 is False else None)
            if t99 or active[20]:
                out.append((20, t99, True))
        elif ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t2 >= 5.0) and (t4 >= 1.0)): out.append((20, True, True))
        if active[21]:
            t106 = (t6 >= 48.0) if t6 == t6 else None
            t107 = t106
            if t106 is not False:
                t108 = (t8 >= 20.0) if t8 == t8 else None
                t107 = t108 if t106 else (False if t106 is False or t108 is False else None)
            if t107 or active[21]:
                out.append((21, t107, True))
        elif ((t6 >= 48.0) and (t8 >= 20.0)): out.append((21, True, True))
        if active[22]:
            t109 = (t17 >= 3.0) if t17 == t17 else None
            c22 = t109
            if c22 is not False:
                t110 = st.seen[1] > 0
                t111 = st.seen[2] > 0
                t112 = True if t110 or t111 else (None if t110 is None or t111 is None else False)
                if t112: c22 = False
            if c22 or active[22]:
                out.append((22, c22, True))
        elif (t17 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((22, True, True))
        if active[23]:
            c23 = t20
            if c23 is not False:
                t113 = 18 in st.present
                t114 = t113
                if t113 is not False:
                    t115 = (t18 == 0.0) if t18 == t18 else None
                    t114 = t115 if t113 else (False if t113 is False or t115 is False else None)
                if t114: c23 = False
            if c23 or active[23]:
                out.append((23, c23, True))
        elif ((t18 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((18 in st.present)) and (t18 == 0.0)): out.append((23, True, True))
        if active[24]:
            t116 = (t23 >= 17.0) if t23 == t23 else None
            t117 = t116
            if not t116:
                t118 = (t22 >= 3.0) if t22 == t22 else None
                t119 = t118
                if t118 is not False:
                    t120 = (w2.low if w2.seen >= 5.0 else _nan)
                    t121 = (t120 < _inf) if t120 == t120 else None
                    t122 = t121
                    if not t121:
                        t123 = (w16.low if w16.seen >= 5.0 else _nan)
                        t124 = (t123 < _inf) if t123 == t123 else None
                        t122 = True if t121 or t124 else (None if t121 is None or t124 is None else False)
                    t119 = t122 if t118 else (False if t118 is False or t122 is False else None)
                t117 = True if t116 or t119 else (None if t116 is None or t119 is None else False)
            if t117 or active[24]:
                out.append((24, t117, True))
        elif ((t23 >= 17.0) or ((t22 >= 3.0) and ((((w2.low if w2.seen >= 5.0 else _nan)) < _inf) or (((w16.low if w16.seen >= 5.0 else _nan)) < _inf)))): out.append((24, True, True))
        if active[25]:
            t125 = (v6 == 0.0) if v6 == v6 else None
            t126 = t125
            if t125 is not False:
                t127 = st.nonfinite(2) if suspicious else g2
                t126 = t127 if t125 else (False if t125 is False or t127 is False else None)
            if t126 or active[25]:
                out.append((25, t126, True))
        elif ((v6 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((25, True, True))
        if active[26]:
            t128 = st.nonfinite(5) if suspicious else g5
            t129 = t128
            if t128 is not False:
                t130 = w18.last
                t131 = abs(t130)
                t132 = (t131 >= 0.0) if t131 == t131 else None
                t129 = t132 if t128 else (False if t128 is False or t132 is False else None)
            if t129 or active[26]:
                out.append((26, t129, True))
        elif (((st.nonfinite(5) if suspicious else g5)) and (abs((w18.last)) >= 0.0)): out.append((26, True, True))
        if active[27]:
            t133 = (v19 if v19 == v19 else v20)
            t134 = (v20 if v20 == v20 else v19)
            t135 = (t134 if t134 > t133 or t134 != t134 else t133)
            t136 = (t135 > 0.0) if t135 == t135 else None
            if t136 or active[27]:
                out.append((27, t136, True))
        elif (_greatest((v19 if v19 == v19 else v20), (v20 if v20 == v20 else v19)) > 0.0): out.append((27, True, True))
        if active[28]:
            t137 = (v21 > 0.0) if v21 == v21 else None
            if t137 or active[28]:
                out.append((28, t137, True))
        elif (v21 > 0.0): out.append((28, True, True))
        if active[29]:
            if t24 or active[29]:
                out.append((29, t24, True))
        elif (v9 > 0.0): out.append((29, True, True))
        if active[30]:
            t138 = (t25 >= 25.0) if t25 == t25 else None
            if t138 or active[30]:
                out.append((30, t138, True))
        elif (t25 >= 25.0): out.append((30, True, True))
        if active[31]:
            t139 = (t28 >= 10.0) if t28 == t28 else None
            if t139 or active[31]:
                out.append((31, t139, True))
        elif (t28 >= 10.0): out.append((31, True, True))
        if active[32]:
            t140 = (w21.lasts(20.0) if v6 - v6 == 0.0 else None)
            if t140 or active[32]:
                out.append((32, t140, True))
        elif (w21.repeats >= 20 and v6 - v6 == 0.0): out.append((32, True, True))
        if active[33]:
            t141 = (t32 >= 5.0) if t32 == t32 else None
            if t141 or active[33]:
                out.append((33, t141, True))
        elif (t32 >= 5.0): out.append((33, True, True))
        if active[34]:
            t142 = (v22 > 0.5) if v22 == v22 else None
            if t142 or active[34]:
                out.append((34, t142, True))
        elif (v22 > 0.5): out.append((34, True, True))
        if active[35]:
            t143 = (v23 > 0.5) if v23 == v23 else None
            if t143 or active[35]:
                out.append((35, t143, True))
        elif (v23 > 0.5): out.append((35, True, True))
        if active[36]:
            t144 = (t33 > 0.0) if t33 == t33 else None
            t145 = t144
            if t144 is not False:
                t146 = (t36 >= 3.0) if t36 == t36 else None
                t145 = t146 if t144 else (False if t144 is False or t146 is False else None)
            if t145 or active[36]:
                out.append((36, t145, True))
        elif ((t33 > 0.0) and (t36 >= 3.0)): out.append((36, True, True))
        if active[37]:
            t147 = (t41 >= 10.0) if t41 == t41 else None
            if t147 or active[37]:
                out.append((37, t147, True))
        elif (t41 >= 10.0): out.append((37, True, True))
        if active[38]:
            t148 = (t42 > 2.0) if t42 == t42 else None
            if t148 or active[38]:
                out.append((38, t148, True))
        elif (t42 > 2.0): out.append((38, True, True))
        if active[39]:
            t149 = (t42 > 5.0) if t42 == t42 else None
            if t149 or active[39]:
                out.append((39, t149, True))
        elif (t42 > 5.0): out.append((39, True, True))
        if active[40]:
            t150 = event is not None and st.has_event('failed')
            if t150 or active[40]:
                out.append((40, t150, True))
        elif ((event is not None and st.has_event('failed'))): out.append((40, True, True))
        if active[41]:
            t151 = False
            if t151 or active[41]:
                out.append((41, t151, True))
        elif (False): out.append((41, True, True))
        if active[42]:
            t152 = event is not None and st.has_logged('*non-finite*')
            t153 = t152
            if not t152:
                t154 = event is not None and st.has_logged('*nan or inf*')
                t153 = True if t152 or t154 else (None if t152 is None or t154 is None else False)
            if t153 or active[42]:
                out.append((42, t153, True))
        elif (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((42, True, True))
        if active[43]:
            t155 = event is not None and st.has_logged('*gradient clipping applied with norm*')
            if t155 or active[43]:
                out.append((43, t155, True))
        elif ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((43, True, True))
        if active[44]:
            t156 = event is not None and st.has_logged('*checkpoint corrupted*')
            t157 = t156
            if not t156:
                t158 = event is not None and st.has_logged('*checkpoint is corrupt*')
                t157 = True if t156 or t158 else (None if t156 is None or t158 is None else False)
            if t157 or active[44]:
                out.append((44, t157, True))
        elif (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((44, True, True))
    else:
        pass
        t159 = _ratio((w5.ordered[9] * 0.5 + w5.ordered[10] * 0.5 if len(w5.ordered) == 20 else w5.median()), abs(v5))
        if (v3 > 100.0): out.append((0, True, True))
        if (v12 < 0.0001): out.append((1, True, True))
        if (v2 > 1000.0): out.append((2, True, True))
        if (v13 < -0.5): out.append((3, True, True))
        if ((v0 > 10.0) or (v1 > 10.0)): out.append((4, True, True))
        if (v0 > 10.0 or v0 < -10.0): out.append((5, True, True))
        if ((v12 < 0.0001) and (v3 > 100.0)): out.append((6, True, True))
        if ((abs(v0) > (100.0 * abs((w0.last)))) and (abs(v1) > (100.0 * abs((w1.last)))) and ((((2 in st.present)) is False) or (v2 > (100.0 * (w2.last))))): out.append((7, True, True))
        if (v3 > (100.0 * (w3.last))): out.append((8, True, True))
        if (v14 > 0.9): out.append((9, True, True))
        if (v13 < 0.0): out.append((10, True, True))
        if (v15 < -5.0): out.append((11, True, True))
        if ((st.nonfinite(3) if suspicious else g3)): out.append((12, True, True))
        if ((v12 >= 1e-08) and (v12 <= 0.0001)): out.append((13, True, True))
        if (w4.repeats >= 20 and v4 - v4 == 0.0): out.append((14, True, True))
        if (t159 >= 2.0): out.append((15, True, True))
        if ((v12 < 1e-08) or ((v16 if v16 == v16 else 0.0) > 0.0)): out.append((16, True, True))
        if ((v3 >= 10.0) or ((v17 if v17 == v17 else 0.0) > 0.0)): out.append((17, True, True))
        if ((st.nonfinite(4) if suspicious else g4)): out.append((18, True, True))
        if ((t1) and (t2 >= 2.0) and (t4 >= 1.0)): out.append((19, True, True))
        if ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t2 >= 5.0) and (t4 >= 1.0)): out.append((20, True, True))
        if ((t6 >= 48.0) and (t8 >= 20.0)): out.append((21, True, True))
        if (t17 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((22, True, True))
        if ((t18 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((18 in st.present)) and (t18 == 0.0)): out.append((23, True, True))
        if ((t23 >= 17.0) or ((t22 >= 3.0) and ((((w2.low if w2.seen >= 5.0 else _nan)) < _inf) or (((w16.low if w16.seen >= 5.0 else _nan)) < _inf)))): out.append((24, True, True))
        if ((v6 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((25, True, True))
        if (((st.nonfinite(5) if suspicious else g5)) and (abs((w18.last)) >= 0.0)): out.append((26, True, True))
        if (_greatest((v19 if v19 == v19 else v20), (v20 if v20 == v20 else v19)) > 0.0): out.append((27, True, True))
        if (v21 > 0.0): out.append((28, True, True))
        if (v9 > 0.0): out.append((29, True, True))
        if (t25 >= 25.0): out.append((30, True, True))
        if (t28 >= 10.0): out.append((31, True, True))
        if (w21.repeats >= 20 and v6 - v6 == 0.0): out.append((32, True, True))
        if (t32 >= 5.0): out.append((33, True, True))
        if (v22 > 0.5): out.append((34, True, True))
        if (v23 > 0.5): out.append((35, True, True))
        if ((t33 > 0.0) and (t36 >= 3.0)): out.append((36, True, True))
        if (t41 >= 10.0): out.append((37, True, True))
        if (t159 > 2.0): out.append((38, True, True))
        if (t159 > 5.0): out.append((39, True, True))
        if ((event is not None and st.has_event('failed'))): out.append((40, True, True))
        if (False): out.append((41, True, True))
        if (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((42, True, True))
        if ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((43, True, True))
        if (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((44, True, True))
    if v0 - v0 == 0.0:
        w0.seen += 1
        w0.last = v0
        if not w0.low <= v0 <= w0.largest: w0.widen(v0)
    if v1 - v1 == 0.0:
        w1.seen += 1
        w1.last = v1
        if not w1.low <= v1 <= w1.largest: w1.widen(v1)
    if v2 - v2 == 0.0:
        w2.seen += 1
        w2.last = v2
        if not w2.low <= v2 <= w2.largest: w2.widen(v2)
    if v3 - v3 == 0.0:
        w3.seen += 1
        w3.last = v3
        if not w3.low <= v3 <= w3.largest: w3.widen(v3)
    if v5 - v5 == 0.0:
        _x = abs(v5)
        w5.queue.append(_x)
        _insort(w5.ordered, _x)
        if len(w5.queue) > 20: del w5.ordered[_bisect(w5.ordered, w5.queue.popleft())]
    if v6 - v6 == 0.0:
        w10.queue.append(v6)
        _insort(w10.ordered, v6)
        if len(w10.queue) > 10: del w10.ordered[_bisect(w10.ordered, w10.queue.popleft())]
        if len(w12.highs) == 1: w12.turn()
        w12.values.append(v6)
        w12.highs.pop()
        w12.lows.pop()
        if v6 >= w12.high: w12.high = v6
        if v6 <= w12.low: w12.low = v6
    if t9 - t9 == 0.0:
        w11.seen += 1
        w11.last = t9
        if not w11.low <= t9 <= w11.largest: w11.widen(t9)
    if t10 - t10 == 0.0:
        w13.seen += 1
        w13.last = t10
        if not w13.low <= t10 <= w13.largest: w13.widen(t10)
    if v8 - v8 == 0.0:
        w16.seen += 1
        w16.last = v8
        if not w16.low <= v8 <= w16.largest: w16.widen(v8)
    if v4 - v4 == 0.0:
        w18.seen += 1
        w18.last = v4
        if not w18.low <= v4 <= w18.largest: w18.widen(v4)
    if v11 - v11 == 0.0:
        w23.seen += 1
        w23.last = v11
        if not w23.low <= v11 <= w23.largest: w23.widen(v11)
    return out


PROGRAM = Program(
    slots=('train/policy_loss', 'train/value_loss', 'train/grad_norm', 'train/advantages_norm_max_abs', 'rollout/ep_rew_mean', 'time/fps', 'train/loss', 'guard/nonfinite_gradients', 'train/grad_norm_max', 'guard/skipped', 'guard/update_ratio', 'eval/loss', 'train/advantages_std_raw', 'train/explained_variance', 'train/clip_fraction', 'train/entropy_loss', 'info/advantages_std_below_epsilon', 'warn/advantages_norm_extreme', 'train/loss_scale', 'checkpoint/nonfinite_tensors', 'guard/nonfinite_parameters', 'guard/frozen_parameters', 'guard/dead_units', 'guard/saturated_units', ),
    sites=(Site(key='RecordWindow(train/policy_loss, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/value_loss, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/grad_norm, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/advantages_norm_max_abs, None)', make=RecordWindow, span=Span()), Site(key='RepeatWindow(rollout/ep_rew_mean, None, now)', make=RepeatWindow, span=Span()), Site(key='MedianWindow(abs(time/fps), 20)', make=MedianWindow, span=Span(updates=20)), Site(key='CountWindow(nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow(not (nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='CountWindow(nonfinite(*), 50)', make=CountWindow, span=Span(updates=50)), Site(key='CountWindow(not (nonfinite(*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='MedianWindow(train/loss, 10)', make=MedianWindow, span=Span(updates=10)), Site(key='RecordWindow(median(train/loss, 10), None)', make=RecordWindow, span=Span()), Site(key='ExtremeWindow(train/loss, 50)', make=ExtremeWindow, span=Span(updates=50)), Site(key='RecordWindow(max(train/loss, 50), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((train/loss > greatest((2.0 * greatest(lowest(median(train/loss, 10), 1.0), 0.05)), lowest(max(train/loss, 50), 1.0))), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(train/grad_norm_max, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 20)', make=CountWindow, span=Span(updates=20)), Site(key='RecordWindow(rollout/ep_rew_mean, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((guard/skipped > 0.0), 25)', make=CountWindow, span=Span(updates=25)), Site(key='CountWindow((known(train/grad_norm_max, train/grad_norm) < 1e-07), 10)', make=CountWindow, span=Span(updates=10)), Site(key='RepeatWindow(train/loss, None, now)', make=RepeatWindow, span=Span()), Site(key='CountWindow(((guard/update_ratio > 10.0) or (guard/update_ratio < 1e-08)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(eval/loss, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((eval/loss > (1.1 * lowest(eval/loss, 1.0))), 3)', make=CountWindow, span=Span(updates=3)), Site(key='CountWindow((eval/loss > (lowest(eval/loss, 1.0) - (0.01 * abs(lowest(eval/loss, 1.0))))), 10)', make=CountWindow, span=Span(updates=10)), ),
    globs=(('*loss*', '*Loss*', '*LOSS*', '*nll*', '*NLL*', '*perplexity*', '*ppl', '*entropy', '*xent*', '*mse', '*MSE*', '*elbo*', '*ELBO*', '*objective', '*bits_per_*', ), ('*', ), ('train/grad_norm', 'train/grad_norm_max', ), ('train/*', 'rollout/*', ), ('train/loss', 'train/policy_loss', 'train/value_loss', 'train/entropy_loss', 'train/approx_kl', 'train/std', 'train/advantages_std_raw', 'train/advantages_mean_raw', 'train/advantages_norm_max_abs', 'train/advantages_norm_mean', ), ('rollout/ep_rew_mean', ), ),
    watched=(6, 0, 4, ),
    metrics=((3, ), (12, ), (2, ), (13, ), (0, 1, ), (0, ), (12, 3, ), (0, 1, 2, ), (3, ), (14, ), (13, ), (15, ), (), (12, ), (4, ), (5, ), (16, 12, ), (17, 3, ), (), (), (6, 0, ), (), (6, ), (7, ), (7, 2, 8, ), (6, ), (4, ), (19, 20, ), (21, ), (9, ), (9, ), (8, 2, ), (6, ), (10, ), (22, ), (23, ), (11, ), (11, ), (5, ), (5, ), (), (), (), (), (), ),
    looked_over=((), (), (), (), (), (), (), (), (), (), (), (), (3, ), (), (), (), (), (), (4, ), (0, 0, 0, ), (0, 0, ), (1, 1, ), (), (2, ), (2, 2, ), (2, ), (5, ), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), ),
    clocked=(41, ),
    advance=advance,
)
