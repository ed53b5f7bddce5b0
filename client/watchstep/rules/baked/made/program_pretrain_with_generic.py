"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.program import SCOPE, Program, Site
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow

globals().update(SCOPE)
RULES = 3017097903


def advance(v, w, st, active):
    out = []
    time, event, suspicious = st.time, st.event, st.suspicious
    (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16, _, _) = v
    (w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, w16, w17, w18, w19, w20, w21, w22, w23, w24, w25, w26, w27, w28, w29, w30, w31, w32, w33, w34, w35, w36, w37, w38, w39, w40, w41, w42, ) = w
    (g0, g1, g2, g3, g4, ) = st.calm
    if 0 in st.present: st.seen[0] = st.age
    if 11 in st.present: st.seen[1] = st.age
    if 6 in st.present: st.seen[2] = st.age
    t1 = _ratio(v0 - (w0.shift + w0.total / 1000 if len(w0.queue) == 1000 else w0.mean()), (_root(_v) if len(w0.queue) == 1000 and 1e-8 * (_o := w0.total / 1000) * _o < (_v := w0.squares / 1000 - _o * _o) < _inf else w0.std()))
    t2 = (t1 > 7.0) if t1 == t1 else None
    t3 = t2
    if t2 is not False:
        t4 = (w1.ordered[24] * 0.5 + w1.ordered[25] * 0.5 if len(w1.ordered) == 50 else w1.median())
        t5 = 1.1 * t4
        t6 = (v0 > t5) if v0 == v0 and t5 == t5 else None
        t3 = t6 if t2 else (False if t2 is False or t6 is False else None)
    t7 = w2.count if t3 is w2.steady else _nan if t3 is None else w2.push(t3, time)
    t8 = (_nan if len(w5.values) < 10 else w5.high if w5.high >= w5.highs[-1] else w5.highs[-1])
    t9 = (w7.ordered[9] * 0.5 + w7.ordered[10] * 0.5 if len(w7.ordered) == 20 else w7.median())
    t10 = (w6.low if w6.seen >= 1.0 else _nan)
    t11 = (w8.low if w8.seen >= 1.0 else _nan)
    t12 = 1.1 * t11
    t13 = (t12 if t12 > t10 or t12 != t12 else t10)
    t14 = (v0 > t13) if v0 == v0 and t13 == t13 else None
    t15 = w9.count if t14 is w9.steady else _nan if t14 is None else w9.push(t14, time)
    t16 = (0.05 if 0.05 > t11 or 0.05 != 0.05 else t11)
    t17 = 2.0 * t16
    t18 = (v0 > t17) if v0 == v0 and t17 == t17 else None
    t19 = w10.count if t18 is w10.steady else _nan if t18 is None else w10.push(t18, time)
    t20 = 0 in st.present
    t21 = t20
    if t20 is not False:
        t22 = 2 in st.present
        t23 = 1 in st.present
        t24 = True if t22 or t23 else (None if t22 is None or t23 is None else False)
        t21 = t24 if t20 else (False if t20 is False or t24 is False else None)
    t25 = w11.count if t21 is w11.steady else _nan if t21 is None else w11.push(t21, time)
    t26 = 0 < st.seen[0] <= st.age - 1.0
    t27 = t26
    if t26 is not False:
        t28 = 2 in st.present
        t29 = 1 in st.present
        t30 = True if t28 or t29 else (None if t28 is None or t29 is None else False)
        t27 = t30 if t26 else (False if t26 is False or t30 is False else None)
    t31 = w12.count if t27 is w12.steady else _nan if t27 is None else w12.push(t27, time)
    t32 = (w1.ordered[24] * 0.5 + w1.ordered[25] * 0.5 if len(w1.ordered) == 50 else w1.median())
    t33 = (w14.low if w14.seen >= 1.0 else _nan)
    t34 = 0.999 * t33
    t35 = (t32 > t34) if t32 == t32 and t34 == t34 else None
    t36 = w15.count if t35 is w15.steady else _nan if t35 is None else w15.push(t35, time)
    t37 = (v1 < _inf) if v1 == v1 else None
    t38 = t37
    if t37 is not False:
        t39 = _ratio(abs(v1), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))
        t40 = (t39 > 10.0) if t39 == t39 else None
        t38 = t40 if t37 else (False if t37 is False or t40 is False else None)
    t41 = t38
    if t38 is not False:
        t42 = (_nan if len(w16.values) < 10 else w16.high if w16.high >= w16.highs[-1] else w16.highs[-1])
        t43 = 0.5 * t42
        t44 = (v1 > t43) if v1 == v1 and t43 == t43 else None
        t41 = t44 if t38 else (False if t38 is False or t44 is False else None)
    t45 = w17.count if t41 is w17.steady else _nan if t41 is None else w17.push(t41, time)
    t46 = (w18.ordered[9] * 0.5 + w18.ordered[10] * 0.5 if len(w18.ordered) == 20 else w18.median())
    t47 = (w19.low if w19.seen >= 1.0 else _nan)
    t48 = 10.0 * t47
    t49 = (v1 > t48) if v1 == v1 and t48 == t48 else None
    t50 = w20.count if t49 is w20.steady else _nan if t49 is None else w20.push(t49, time)
    t51 = st.nonfinite(0) if suspicious else g0
    t52 = w23.count if t51 is w23.steady else _nan if t51 is None else w23.push(t51, time)
    t53 = None if t51 is None else not t51
    t54 = w24.count if t53 is w24.steady else _nan if t53 is None else w24.push(t53, time)
    t55 = st.nonfinite(1) if suspicious else g1
    t56 = w25.count if t55 is w25.steady else _nan if t55 is None else w25.push(t55, time)
    t57 = None if t55 is None else not t55
    t58 = w26.count if t57 is w26.steady else _nan if t57 is None else w26.push(t57, time)
    t59 = (w27.ordered[4] * 0.5 + w27.ordered[5] * 0.5 if len(w27.ordered) == 10 else w27.median())
    t60 = (w28.low if w28.seen >= 1.0 else _nan)
    t61 = (0.05 if 0.05 > t60 or 0.05 != 0.05 else t60)
    t62 = 2.0 * t61
    t63 = (t10 if t10 > t62 or t10 != t10 else t62)
    t64 = (v0 > t63) if v0 == v0 and t63 == t63 else None
    t65 = w29.count if t64 is w29.steady else _nan if t64 is None else w29.push(t64, time)
    t66 = (v4 if v4 == v4 else 0.0)
    t67 = (t66 > 0.0) if t66 == t66 else None
    t68 = t67
    if not t67:
        t69 = st.nonfinite(2) if suspicious else g2
        t68 = True if t67 or t69 else (None if t67 is None or t69 is None else False)
    t70 = w30.count if t68 is w30.steady else _nan if t68 is None else w30.push(t68, time)
    t71 = w33.count if t68 is w33.steady else _nan if t68 is None else w33.push(t68, time)
    t72 = (v7 > 0.0) if v7 == v7 else None
    t73 = w35.count if t72 is w35.steady else _nan if t72 is None else w35.push(t72, time)
    t74 = (v5 if v5 == v5 else v1)
    t75 = (t74 < 1e-07) if t74 == t74 else None
    t76 = w36.count if t75 is w36.steady else _nan if t75 is None else w36.push(t75, time)
    if v0 - v0 == 0.0:
        w37.seen += 1
        if v0 == w37.last: w37.repeats += 1
        else: w37.last, w37.repeats = v0, 1
    t77 = (v8 > 10.0) if v8 == v8 else None
    t78 = (v8 < 1e-08) if v8 == v8 else None
    t79 = True if t77 or t78 else (None if t77 is None or t78 is None else False)
    t80 = w38.count if t79 is w38.steady else _nan if t79 is None else w38.push(t79, time)
    t81 = (w39.low if w39.seen >= 1.0 else _nan)
    t82 = 1.1 * t81
    t83 = (v9 > t82) if v9 == v9 and t82 == t82 else None
    t84 = w40.count if t83 is w40.steady else _nan if t83 is None else w40.push(t83, time)
    t85 = abs(t81)
    t86 = 0.01 * t85
    t87 = t81 - t86
    t88 = (v9 > t87) if v9 == v9 and t87 == t87 else None
    t89 = w41.count if t88 is w41.steady else _nan if t88 is None else w41.push(t88, time)
    if st.busy:
        pass
        t90 = _ratio((w42.ordered[9] * 0.5 + w42.ordered[10] * 0.5 if len(w42.ordered) == 20 else w42.median()), abs(v10))
        if active[0]:
            c0 = t3
            if c0 is not False:
                t91 = st.seen[1] > 0
                t92 = st.seen[2] > 0
                t93 = True if t91 or t92 else (None if t91 is None or t92 is None else False)
                if t93: c0 = False
            if st.age <= 100: c0 = None
            if c0 or active[0]:
                out.append((0, c0, True))
        elif st.age > 100 and ((t1 > 7.0) and (v0 > (1.1 * t32))) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((0, True, True))
        if active[1]:
            t94 = (t7 >= 3.0) if t7 == t7 else None
            c1 = t94
            if c1 is not False:
                t95 = st.seen[1] > 0
                t96 = st.seen[2] > 0
                t97 = True if t95 or t96 else (None if t95 is None or t96 is None else False)
                if t97: c1 = False
            if st.age <= 100: c1 = None
            if c1 or active[1]:
                out.append((1, c1, True))
        elif st.age > 100 and (t7 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((1, True, True))
        if active[2]:
            t98 = (v1 > 100.0) if v1 == v1 else None
            t99 = t98
            if t98 is not False:
                t100 = w3.last
                t101 = 1.5 * t100
                t102 = (v0 > t101) if v0 == v0 and t101 == t101 else None
                t99 = t102 if t98 else (False if t98 is False or t102 is False else None)
            t103 = t99
            if t99 is not False:
                t104 = _ratio(abs(v1), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))
                t105 = (t104 if t104 == t104 else 100.0)
                t106 = (t105 > 10.0) if t105 == t105 else None
                t103 = t106 if t99 else (False if t99 is False or t106 is False else None)
            c2 = t103
            if c2 is not False:
                t107 = st.seen[1] > 0
                t108 = st.seen[2] > 0
                t109 = True if t107 or t108 else (None if t107 is None or t108 is None else False)
                if t109: c2 = False
            if c2 or active[2]:
                out.append((2, c2, True))
        elif ((v1 > 100.0) and (v0 > (1.5 * (w3.last))) and (_known((_ratio(abs(v1), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))), 100.0) > 10.0)) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((2, True, True))
        if active[3]:
            t110 = (v0 > 0.05) if v0 == v0 else None
            t111 = t110
            if t110 is not False:
                t112 = (t15 >= 18.0) if t15 == t15 else None
                t111 = t112 if t110 else (False if t110 is False or t112 is False else None)
            c3 = t111
            if c3 is not False:
                t113 = st.seen[1] > 0
                t114 = st.seen[2] > 0
                t115 = True if t113 or t114 else (None if t113 is None or t114 is None else False)
                if t115: c3 = False
            if c3 or active[3]:
                out.append((3, c3, True))
        elif ((v0 > 0.05) and (t15 >= 18.0)) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((3, True, True))
        if active[4]:
            t116 = (t19 >= 18.0) if t19 == t19 else None
            c4 = t116
            if c4 is not False:
                t117 = st.seen[1] > 0
                t118 = st.seen[2] > 0
                t119 = True if t117 or t118 else (None if t117 is None or t118 is None else False)
                if t119: c4 = False
            if c4 or active[4]:
                out.append((4, c4, True))
        elif (t19 >= 18.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((4, True, True))
        if active[5]:
            t120 = (t31 <= 3.0) if t31 == t31 else None
            t121 = t120
            if t120 is not False:
                t122 = t27
                if t27 is not False:
                    t123 = (t25 >= 2.0) if t25 == t25 else None
                    t122 = t123 if t27 else (False if t27 is False or t123 is False else None)
                t121 = t122 if t120 else (False if t120 is False or t122 is False else None)
            c5 = t121
            if c5 is not False:
                t124 = 9 in st.present
                t125 = t124
                if not t124:
                    t126 = w13.last
                    t127 = (v3 < t126) if v3 == v3 and t126 == t126 else None
                    t128 = t127
                    if t127 is not False:
                        t129 = w3.last
                        t130 = (w3.low if w3.seen >= 1.0 else _nan)
                        t131 = 1.5 * t130
                        t132 = (t129 < t131) if t129 == t129 and t131 == t131 else None
                        t128 = t132 if t127 else (False if t127 is False or t132 is False else None)
                    t125 = True if t124 or t128 else (None if t124 is None or t128 is None else False)
                if t125: c5 = False
            if c5 or active[5]:
                out.append((5, c5, t20))
        elif ((t26) and (((2 in st.present)) or ((1 in st.present))) and (t25 >= 2.0) and (t31 <= 3.0)) and not (((9 in st.present)) or ((v3 < (w13.last)) and ((w3.last) < (1.5 * ((w3.low if w3.seen >= 1.0 else _nan)))))): out.append((5, True, True))
        if active[6]:
            t133 = (v0 > 0.05) if v0 == v0 else None
            t134 = t133
            if t133 is not False:
                t135 = (t36 >= 500.0) if t36 == t36 else None
                t134 = t135 if t133 else (False if t133 is False or t135 is False else None)
            c6 = t134
            if c6 is not False:
                t136 = st.seen[1] > 0
                t137 = st.seen[2] > 0
                t138 = True if t136 or t137 else (None if t136 is None or t137 is None else False)
                if t138: c6 = False
            if c6 or active[6]:
                out.append((6, c6, True))
        elif ((v0 > 0.05) and (t36 >= 500.0)) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((6, True, True))
        if active[7]:
            if t38 or active[7]:
                out.append((7, t38, True))
        elif ((v1 < _inf) and ((_ratio(abs(v1), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))) > 10.0)): out.append((7, True, True))
        if active[8]:
            t139 = (t45 >= 2.0) if t45 == t45 else None
            if t139 or active[8]:
                out.append((8, t139, True))
        elif (t45 >= 2.0): out.append((8, True, True))
        if active[9]:
            t140 = (t50 >= 18.0) if t50 == t50 else None
            if t140 or active[9]:
                out.append((9, t140, True))
        elif (t50 >= 18.0): out.append((9, True, True))
        if active[10]:
            t141 = (_nan if len(w21.values) < 10 else w21.high if w21.high >= w21.highs[-1] else w21.highs[-1])
            t142 = 64.0 * v3
            t143 = (t141 >= t142) if t141 == t141 and t142 == t142 else None
            if t143 or active[10]:
                out.append((10, t143, True))
        elif (((_nan if len(w21.values) < 10 else w21.high if w21.high >= w21.highs[-1] else w21.highs[-1])) >= (64.0 * v3)): out.append((10, True, True))
        if active[11]:
            t144 = (v3 <= 1.0) if v3 == v3 else None
            t145 = t144
            if t144 is not False:
                t146 = (_nan if len(w22.values) < 10 else w22.high if w22.high >= w22.highs[-1] else w22.highs[-1])
                t147 = (t146 > 1.0) if t146 == t146 else None
                t145 = t147 if t144 else (False if t144 is False or t147 is False else None)
            if t145 or active[11]:
                out.append((11, t145, True))
        elif ((v3 <= 1.0) and (((_nan if len(w22.values) < 10 else w22.high if w22.high >= w22.highs[-1] else w22.highs[-1])) > 1.0)): out.append((11, True, True))
        if active[12]:
            t148 = st.nonfinite(3) if suspicious else g3
            if t148 or active[12]:
                out.append((12, t148, True))
        elif ((st.nonfinite(3) if suspicious else g3)): out.append((12, True, True))
        if active[13]:
            t149 = (t54 >= 1.0) if t54 == t54 else None
            t150 = t149
            if t149 is not False:
                t151 = t51
                if t51 is not False:
                    t152 = (t52 >= 2.0) if t52 == t52 else None
                    t151 = t152 if t51 else (False if t51 is False or t152 is False else None)
                t150 = t151 if t149 else (False if t149 is False or t151 is False else None)
            if t150 or active[13]:
                out.append((13, t150, True))
        elif ((t51) and (t52 >= 2.0) and (t54 >= 1.0)): out.append((13, True, True))
        if active[14]:
            t153 = st.seen[1] > 0
            t154 = None if t153 is None else not t153
            t155 = t154
            if t154 is not False:
                t156 = st.seen[0] > 0
                t157 = None if t156 is None else not t156
                t158 = t157
                if t157 is not False:
                    t159 = (t52 >= 5.0) if t52 == t52 else None
                    t160 = t159
                    if t159 is not False:
                        t161 = (t54 >= 1.0) if t54 == t54 else None
                        t160 = t161 if t159 else (False if t159 is False or t161 is False else None)
                    t158 = t160 if t157 else (False if t157 is False or t160 is False else None)
                t155 = t158 if t154 else (False if t154 is False or t158 is False else None)
            if t155 or active[14]:
                out.append((14, t155, True))
        elif ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t52 >= 5.0) and (t54 >= 1.0)): out.append((14, True, True))
        if active[15]:
            t162 = (t56 >= 48.0) if t56 == t56 else None
            t163 = t162
            if t162 is not False:
                t164 = (t58 >= 20.0) if t58 == t58 else None
                t163 = t164 if t162 else (False if t162 is False or t164 is False else None)
            if t163 or active[15]:
                out.append((15, t163, True))
        elif ((t56 >= 48.0) and (t58 >= 20.0)): out.append((15, True, True))
        if active[16]:
            t165 = (t65 >= 3.0) if t65 == t65 else None
            c16 = t165
            if c16 is not False:
                t166 = st.seen[1] > 0
                t167 = st.seen[2] > 0
                t168 = True if t166 or t167 else (None if t166 is None or t167 is None else False)
                if t168: c16 = False
            if c16 or active[16]:
                out.append((16, c16, True))
        elif (t65 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((16, True, True))
        if active[17]:
            c17 = t68
            if c17 is not False:
                t169 = 3 in st.present
                t170 = t169
                if t169 is not False:
                    t171 = (t66 == 0.0) if t66 == t66 else None
                    t170 = t171 if t169 else (False if t169 is False or t171 is False else None)
                if t170: c17 = False
            if c17 or active[17]:
                out.append((17, c17, True))
        elif ((t66 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((3 in st.present)) and (t66 == 0.0)): out.append((17, True, True))
        if active[18]:
            t172 = (t71 >= 17.0) if t71 == t71 else None
            t173 = t172
            if not t172:
                t174 = (t70 >= 3.0) if t70 == t70 else None
                t175 = t174
                if t174 is not False:
                    t176 = (w31.low if w31.seen >= 5.0 else _nan)
                    t177 = (t176 < _inf) if t176 == t176 else None
                    t178 = t177
                    if not t177:
                        t179 = (w32.low if w32.seen >= 5.0 else _nan)
                        t180 = (t179 < _inf) if t179 == t179 else None
                        t178 = True if t177 or t180 else (None if t177 is None or t180 is None else False)
                    t175 = t178 if t174 else (False if t174 is False or t178 is False else None)
                t173 = True if t172 or t175 else (None if t172 is None or t175 is None else False)
            if t173 or active[18]:
                out.append((18, t173, True))
        elif ((t71 >= 17.0) or ((t70 >= 3.0) and ((((w31.low if w31.seen >= 5.0 else _nan)) < _inf) or (((w32.low if w32.seen >= 5.0 else _nan)) < _inf)))): out.append((18, True, True))
        if active[19]:
            t181 = (v0 == 0.0) if v0 == v0 else None
            t182 = t181
            if t181 is not False:
                t183 = st.nonfinite(2) if suspicious else g2
                t182 = t183 if t181 else (False if t181 is False or t183 is False else None)
            if t182 or active[19]:
                out.append((19, t182, True))
        elif ((v0 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((19, True, True))
        if active[20]:
            t184 = st.nonfinite(4) if suspicious else g4
            t185 = t184
            if t184 is not False:
                t186 = w34.last
                t187 = abs(t186)
                t188 = (t187 >= 0.0) if t187 == t187 else None
                t185 = t188 if t184 else (False if t184 is False or t188 is False else None)
            if t185 or active[20]:
                out.append((20, t185, True))
        elif (((st.nonfinite(4) if suspicious else g4)) and (abs((w34.last)) >= 0.0)): out.append((20, True, True))
        if active[21]:
            t189 = (v12 if v12 == v12 else v13)
            t190 = (v13 if v13 == v13 else v12)
            t191 = (t190 if t190 > t189 or t190 != t190 else t189)
            t192 = (t191 > 0.0) if t191 == t191 else None
            if t192 or active[21]:
                out.append((21, t192, True))
        elif (_greatest((v12 if v12 == v12 else v13), (v13 if v13 == v13 else v12)) > 0.0): out.append((21, True, True))
        if active[22]:
            t193 = (v14 > 0.0) if v14 == v14 else None
            if t193 or active[22]:
                out.append((22, t193, True))
        elif (v14 > 0.0): out.append((22, True, True))
        if active[23]:
            if t72 or active[23]:
                out.append((23, t72, True))
        elif (v7 > 0.0): out.append((23, True, True))
        if active[24]:
            t194 = (t73 >= 25.0) if t73 == t73 else None
            if t194 or active[24]:
                out.append((24, t194, True))
        elif (t73 >= 25.0): out.append((24, True, True))
        if active[25]:
            t195 = (t76 >= 10.0) if t76 == t76 else None
            if t195 or active[25]:
                out.append((25, t195, True))
        elif (t76 >= 10.0): out.append((25, True, True))
        if active[26]:
            t196 = (w37.lasts(20.0) if v0 - v0 == 0.0 else None)
            if t196 or active[26]:
                out.append((26, t196, True))
        elif (w37.repeats >= 20 and v0 - v0 == 0.0): out.append((26, True, True))
        if active[27]:
            t197 = (t80 >= 5.0) if t80 == t80 else None
            if t197 or active[27]:
                out.append((27, t197, True))
        elif (t80 >= 5.0): out.append((27, True, True))
        if active[28]:
            t198 = (v15 > 0.5) if v15 == v15 else None
            if t198 or active[28]:
                out.append((28, t198, True))
        elif (v15 > 0.5): out.append((28, True, True))
        if active[29]:
            t199 = (v16 > 0.5) if v16 == v16 else None
            if t199 or active[29]:
                out.append((29, t199, True))
        elif (v16 > 0.5): out.append((29, True, True))
        if active[30]:
            t200 = (t81 > 0.0) if t81 == t81 else None
            t201 = t200
            if t200 is not False:
                t202 = (t84 >= 3.0) if t84 == t84 else None
                t201 = t202 if t200 else (False if t200 is False or t202 is False else None)
            if t201 or active[30]:
                out.append((30, t201, True))
        elif ((t81 > 0.0) and (t84 >= 3.0)): out.append((30, True, True))
        if active[31]:
            t203 = (t89 >= 10.0) if t89 == t89 else None
            if t203 or active[31]:
                out.append((31, t203, True))
        elif (t89 >= 10.0): out.append((31, True, True))
        if active[32]:
            t204 = (t90 > 2.0) if t90 == t90 else None
            if t204 or active[32]:
                out.append((32, t204, True))
        elif (t90 > 2.0): out.append((32, True, True))
        if active[33]:
            t205 = (t90 > 5.0) if t90 == t90 else None
            if t205 or active[33]:
                out.append((33, t205, True))
        elif (t90 > 5.0): out.append((33, True, True))
        if active[34]:
            t206 = event is not None and st.has_event('failed')
            if t206 or active[34]:
                out.append((34, t206, True))
        elif ((event is not None and st.has_event('failed'))): out.append((34, True, True))
        if active[35]:
            t207 = False
            if t207 or active[35]:
                out.append((35, t207, True))
        elif (False): out.append((35, True, True))
        if active[36]:
            t208 = event is not None and st.has_logged('*non-finite*')
            t209 = t208
            if not t208:
                t210 = event is not None and st.has_logged('*nan or inf*')
                t209 = True if t208 or t210 else (None if t208 is None or t210 is None else False)
            if t209 or active[36]:
                out.append((36, t209, True))
        elif (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((36, True, True))
        if active[37]:
            t211 = event is not None and st.has_logged('*gradient clipping applied with norm*')
            if t211 or active[37]:
                out.append((37, t211, True))
        elif ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((37, True, True))
        if active[38]:
            t212 = event is not None and st.has_logged('*checkpoint corrupted*')
            t213 = t212
            if not t212:
                t214 = event is not None and st.has_logged('*checkpoint is corrupt*')
                t213 = True if t212 or t214 else (None if t212 is None or t214 is None else False)
            if t213 or active[38]:
                out.append((38, t213, True))
        elif (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((38, True, True))
    else:
        pass
        t215 = _ratio((w42.ordered[9] * 0.5 + w42.ordered[10] * 0.5 if len(w42.ordered) == 20 else w42.median()), abs(v10))
        if st.age > 100 and ((t1 > 7.0) and (v0 > (1.1 * t32))) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((0, True, True))
        if st.age > 100 and (t7 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((1, True, True))
        if ((v1 > 100.0) and (v0 > (1.5 * (w3.last))) and (_known((_ratio(abs(v1), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))), 100.0) > 10.0)) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((2, True, True))
        if ((v0 > 0.05) and (t15 >= 18.0)) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((3, True, True))
        if (t19 >= 18.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((4, True, True))
        if ((t26) and (((2 in st.present)) or ((1 in st.present))) and (t25 >= 2.0) and (t31 <= 3.0)) and not (((9 in st.present)) or ((v3 < (w13.last)) and ((w3.last) < (1.5 * ((w3.low if w3.seen >= 1.0 else _nan)))))): out.append((5, True, True))
        if ((v0 > 0.05) and (t36 >= 500.0)) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((6, True, True))
        if ((v1 < _inf) and ((_ratio(abs(v1), (w4.ordered[24] * 0.5 + w4.ordered[25] * 0.5 if len(w4.ordered) == 50 else w4.median()))) > 10.0)): out.append((7, True, True))
        if (t45 >= 2.0): out.append((8, True, True))
        if (t50 >= 18.0): out.append((9, True, True))
        if (((_nan if len(w21.values) < 10 else w21.high if w21.high >= w21.highs[-1] else w21.highs[-1])) >= (64.0 * v3)): out.append((10, True, True))
        if ((v3 <= 1.0) and (((_nan if len(w22.values) < 10 else w22.high if w22.high >= w22.highs[-1] else w22.highs[-1])) > 1.0)): out.append((11, True, True))
        if ((st.nonfinite(3) if suspicious else g3)): out.append((12, True, True))
        if ((t51) and (t52 >= 2.0) and (t54 >= 1.0)): out.append((13, True, True))
        if ((((st.seen[0] > 0)) is False) and (((st.seen[1] > 0)) is False) and (t52 >= 5.0) and (t54 >= 1.0)): out.append((14, True, True))
        if ((t56 >= 48.0) and (t58 >= 20.0)): out.append((15, True, True))
        if (t65 >= 3.0) and not (((st.seen[1] > 0)) or ((st.seen[2] > 0))): out.append((16, True, True))
        if ((t66 > 0.0) or ((st.nonfinite(2) if suspicious else g2))) and not (((3 in st.present)) and (t66 == 0.0)): out.append((17, True, True))
        if ((t71 >= 17.0) or ((t70 >= 3.0) and ((((w31.low if w31.seen >= 5.0 else _nan)) < _inf) or (((w32.low if w32.seen >= 5.0 else _nan)) < _inf)))): out.append((18, True, True))
        if ((v0 == 0.0) and ((st.nonfinite(2) if suspicious else g2))): out.append((19, True, True))
        if (((st.nonfinite(4) if suspicious else g4)) and (abs((w34.last)) >= 0.0)): out.append((20, True, True))
        if (_greatest((v12 if v12 == v12 else v13), (v13 if v13 == v13 else v12)) > 0.0): out.append((21, True, True))
        if (v14 > 0.0): out.append((22, True, True))
        if (v7 > 0.0): out.append((23, True, True))
        if (t73 >= 25.0): out.append((24, True, True))
        if (t76 >= 10.0): out.append((25, True, True))
        if (w37.repeats >= 20 and v0 - v0 == 0.0): out.append((26, True, True))
        if (t80 >= 5.0): out.append((27, True, True))
        if (v15 > 0.5): out.append((28, True, True))
        if (v16 > 0.5): out.append((29, True, True))
        if ((t81 > 0.0) and (t84 >= 3.0)): out.append((30, True, True))
        if (t89 >= 10.0): out.append((31, True, True))
        if (t215 > 2.0): out.append((32, True, True))
        if (t215 > 5.0): out.append((33, True, True))
        if ((event is not None and st.has_event('failed'))): out.append((34, True, True))
        if (False): out.append((35, True, True))
        if (((event is not None and st.has_logged('*non-finite*'))) or ((event is not None and st.has_logged('*nan or inf*')))): out.append((36, True, True))
        if ((event is not None and st.has_logged('*gradient clipping applied with norm*'))): out.append((37, True, True))
        if (((event is not None and st.has_logged('*checkpoint corrupted*'))) or ((event is not None and st.has_logged('*checkpoint is corrupt*')))): out.append((38, True, True))
    if v0 - v0 == 0.0:
        if len(w0.queue) < 1000: w0.push(v0, time)
        else:
            _s = w0.shift
            _in, _out = v0 - _s, w0.queue.popleft() - _s
            w0.queue.append(v0)
            _total = w0.total = w0.total + _in - _out
            _squares = w0.squares + _in * _in
            if _squares > w0.peak: w0.peak = _squares
            _squares = w0.squares = _squares - _out * _out
            _left = w0.left = w0.left + 1
            _lost = not 1e-4 * w0.peak <= _squares < _inf or _left >= 1000
            if _lost or abs(_s * 1000 + _total) < 1e-4 * abs(_s) * 1000: w0.sum_again()
        w1.queue.append(v0)
        _insort(w1.ordered, v0)
        if len(w1.queue) > 50: del w1.ordered[_bisect(w1.ordered, w1.queue.popleft())]
        w3.seen += 1
        w3.last = v0
        if not w3.low <= v0 <= w3.largest: w3.widen(v0)
        if len(w5.highs) == 1: w5.turn()
        w5.values.append(v0)
        w5.highs.pop()
        w5.lows.pop()
        if v0 >= w5.high: w5.high = v0
        if v0 <= w5.low: w5.low = v0
        w7.queue.append(v0)
        _insort(w7.ordered, v0)
        if len(w7.queue) > 20: del w7.ordered[_bisect(w7.ordered, w7.queue.popleft())]
        w27.queue.append(v0)
        _insort(w27.ordered, v0)
        if len(w27.queue) > 10: del w27.ordered[_bisect(w27.ordered, w27.queue.popleft())]
    if v1 - v1 == 0.0:
        _x = abs(v1)
        w4.queue.append(_x)
        _insort(w4.ordered, _x)
        if len(w4.queue) > 50: del w4.ordered[_bisect(w4.ordered, w4.queue.popleft())]
        if len(w16.highs) == 1: w16.turn()
        w16.values.append(v1)
        w16.highs.pop()
        w16.lows.pop()
        if v1 >= w16.high: w16.high = v1
        if v1 <= w16.low: w16.low = v1
        w18.queue.append(v1)
        _insort(w18.ordered, v1)
        if len(w18.queue) > 20: del w18.ordered[_bisect(w18.ordered, w18.queue.popleft())]
        w31.seen += 1
        w31.last = v1
        if not w31.low <= v1 <= w31.largest: w31.widen(v1)
    if t8 - t8 == 0.0:
        w6.seen += 1
        w6.last = t8
        if not w6.low <= t8 <= w6.largest: w6.widen(t8)
    if t9 - t9 == 0.0:
        w8.seen += 1
        w8.last = t9
        if not w8.low <= t9 <= w8.largest: w8.widen(t9)
    if v3 - v3 == 0.0:
        w13.seen += 1
        w13.last = v3
        if not w13.low <= v3 <= w13.largest: w13.widen(v3)
        if len(w21.highs) == 1: w21.turn()
        w21.values.append(v3)
        w21.highs.pop()
        w21.lows.pop()
        if v3 >= w21.high: w21.high = v3
        if v3 <= w21.low: w21.low = v3
        if len(w22.highs) == 1: w22.turn()
        w22.values.append(v3)
        w22.highs.pop()
        w22.lows.pop()
        if v3 >= w22.high: w22.high = v3
        if v3 <= w22.low: w22.low = v3
    if t32 - t32 == 0.0:
        w14.seen += 1
        w14.last = t32
        if not w14.low <= t32 <= w14.largest: w14.widen(t32)
    if t46 - t46 == 0.0:
        w19.seen += 1
        w19.last = t46
        if not w19.low <= t46 <= w19.largest: w19.widen(t46)
    if t59 - t59 == 0.0:
        w28.seen += 1
        w28.last = t59
        if not w28.low <= t59 <= w28.largest: w28.widen(t59)
    if v5 - v5 == 0.0:
        w32.seen += 1
        w32.last = v5
        if not w32.low <= v5 <= w32.largest: w32.widen(v5)
    if v6 - v6 == 0.0:
        w34.seen += 1
        w34.last = v6
        if not w34.low <= v6 <= w34.largest: w34.widen(v6)
    if v9 - v9 == 0.0:
        w39.seen += 1
        w39.last = v9
        if not w39.low <= v9 <= w39.largest: w39.widen(v9)
    if v10 - v10 == 0.0:
        _x = abs(v10)
        w42.queue.append(_x)
        _insort(w42.ordered, _x)
        if len(w42.queue) > 20: del w42.ordered[_bisect(w42.ordered, w42.queue.popleft())]
    return out


PROGRAM = Program(
    slots=('train/loss', 'train/grad_norm', 'train/learning_rate', 'train/loss_scale', 'guard/nonfinite_gradients', 'train/grad_norm_max', 'rollout/ep_rew_mean', 'guard/skipped', 'guard/update_ratio', 'eval/loss', 'time/fps', 'train/policy_loss', 'checkpoint/nonfinite_tensors', 'guard/nonfinite_parameters', 'guard/frozen_parameters', 'guard/dead_units', 'guard/saturated_units', ),
    sites=(Site(key='MomentWindow(train/loss, 1000)', make=MomentWindow, span=Span(updates=1000)), Site(key='MedianWindow(train/loss, 50)', make=MedianWindow, span=Span(updates=50)), Site(key='CountWindow(((zscore(train/loss, 1000) > 7.0) and (train/loss > (1.1 * median(train/loss, 50)))), 20)', make=CountWindow, span=Span(updates=20)), Site(key='RecordWindow(train/loss, None)', make=RecordWindow, span=Span()), Site(key='MedianWindow(abs(train/grad_norm), 50)', make=MedianWindow, span=Span(updates=50)), Site(key='ExtremeWindow(train/loss, 50)', make=ExtremeWindow, span=Span(updates=50)), Site(key='RecordWindow(max(train/loss, 50), None)', make=RecordWindow, span=Span()), Site(key='MedianWindow(train/loss, 20)', make=MedianWindow, span=Span(updates=20)), Site(key='RecordWindow(median(train/loss, 20), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((train/loss > greatest(lowest(max(train/loss, 50), 1.0), (1.1 * lowest(median(train/loss, 20), 1.0)))), 20)', make=CountWindow, span=Span(updates=20)), Site(key='CountWindow((train/loss > (2.0 * greatest(lowest(median(train/loss, 20), 1.0), 0.05))), 20)', make=CountWindow, span=Span(updates=20)), Site(key='CountWindow((present(train/loss) and (present(train/learning_rate) or present(train/grad_norm))), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='CountWindow((missing(train/loss, 1.0) and (present(train/learning_rate) or present(train/grad_norm))), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='RecordWindow(train/loss_scale, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(median(train/loss, 50), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((median(train/loss, 50) > (0.999 * lowest(median(train/loss, 50), 1.0))), 500)', make=CountWindow, span=Span(updates=500)), Site(key='ExtremeWindow(train/grad_norm, 1000)', make=ExtremeWindow, span=Span(updates=1000)), Site(key='CountWindow((((spike(train/grad_norm, 50) > 10.0) and (train/grad_norm < inf)) and (train/grad_norm > (0.5 * max(train/grad_norm, 1000)))), 10)', make=CountWindow, span=Span(updates=10)), Site(key='MedianWindow(train/grad_norm, 20)', make=MedianWindow, span=Span(updates=20)), Site(key='RecordWindow(median(train/grad_norm, 20), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((train/grad_norm > (10.0 * lowest(median(train/grad_norm, 20), 1.0))), 20)', make=CountWindow, span=Span(updates=20)), Site(key='ExtremeWindow(train/loss_scale, 20)', make=ExtremeWindow, span=Span(updates=20)), Site(key='ExtremeWindow(train/loss_scale, 100)', make=ExtremeWindow, span=Span(updates=100)), Site(key='CountWindow(nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow(not (nonfinite(*loss*, *Loss*, *LOSS*, *nll*, *NLL*, *perplexity*, *ppl, *entropy, *xent*, *mse, *MSE*, *elbo*, *ELBO*, *objective, *bits_per_*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='CountWindow(nonfinite(*), 50)', make=CountWindow, span=Span(updates=50)), Site(key='CountWindow(not (nonfinite(*)), 1000)', make=CountWindow, span=Span(updates=1000)), Site(key='MedianWindow(train/loss, 10)', make=MedianWindow, span=Span(updates=10)), Site(key='RecordWindow(median(train/loss, 10), None)', make=RecordWindow, span=Span()), Site(key='CountWindow((train/loss > greatest((2.0 * greatest(lowest(median(train/loss, 10), 1.0), 0.05)), lowest(max(train/loss, 50), 1.0))), 5)', make=CountWindow, span=Span(updates=5)), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(train/grad_norm, None)', make=RecordWindow, span=Span()), Site(key='RecordWindow(train/grad_norm_max, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((nonfinite(train/grad_norm, train/grad_norm_max) or (known(guard/nonfinite_gradients, 0.0) > 0.0)), 20)', make=CountWindow, span=Span(updates=20)), Site(key='RecordWindow(rollout/ep_rew_mean, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((guard/skipped > 0.0), 25)', make=CountWindow, span=Span(updates=25)), Site(key='CountWindow((known(train/grad_norm_max, train/grad_norm) < 1e-07), 10)', make=CountWindow, span=Span(updates=10)), Site(key='RepeatWindow(train/loss, None, now)', make=RepeatWindow, span=Span()), Site(key='CountWindow(((guard/update_ratio > 10.0) or (guard/update_ratio < 1e-08)), 5)', make=CountWindow, span=Span(updates=5)), Site(key='RecordWindow(eval/loss, None)', make=RecordWindow, span=Span()), Site(key='CountWindow((eval/loss > (1.1 * lowest(eval/loss, 1.0))), 3)', make=CountWindow, span=Span(updates=3)), Site(key='CountWindow((eval/loss > (lowest(eval/loss, 1.0) - (0.01 * abs(lowest(eval/loss, 1.0))))), 10)', make=CountWindow, span=Span(updates=10)), Site(key='MedianWindow(abs(time/fps), 20)', make=MedianWindow, span=Span(updates=20)), ),
    globs=(('*loss*', '*Loss*', '*LOSS*', '*nll*', '*NLL*', '*perplexity*', '*ppl', '*entropy', '*xent*', '*mse', '*MSE*', '*elbo*', '*ELBO*', '*objective', '*bits_per_*', ), ('*', ), ('train/grad_norm', 'train/grad_norm_max', ), ('train/loss', 'train/policy_loss', 'train/value_loss', 'train/entropy_loss', 'train/approx_kl', 'train/std', 'train/advantages_std_raw', 'train/advantages_mean_raw', 'train/advantages_norm_max_abs', 'train/advantages_norm_mean', ), ('rollout/ep_rew_mean', ), ),
    watched=(0, 11, 6, ),
    metrics=((0, ), (0, ), (0, 1, ), (0, ), (0, ), (0, 2, 1, ), (0, ), (1, ), (1, ), (1, ), (3, ), (3, ), (), (), (0, 11, ), (), (0, ), (4, ), (4, 1, 5, ), (0, ), (6, ), (12, 13, ), (14, ), (7, ), (7, ), (5, 1, ), (0, ), (8, ), (15, ), (16, ), (9, ), (9, ), (10, ), (10, ), (), (), (), (), (), ),
    looked_over=((), (), (), (), (), (), (), (), (), (), (), (), (3, ), (0, 0, 0, ), (0, 0, ), (1, 1, ), (), (2, ), (2, 2, ), (2, ), (4, ), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), (), ),
    clocked=(35, ),
    advance=advance,
)
