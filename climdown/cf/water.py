"""Standard names of water by mass and by depth: a name fits one of the two alone."""

from __future__ import annotations

from climdown.cf.units import plainly_convertible

_CANONICAL = ("kg m-2 s-1", "m s-1", "kg m-2", "m")


def _names(water: str, rate: str, depth: str) -> tuple[str, ...]:
    return f"{water}_flux", rate, f"{water}_amount", depth


# Of one quantity: mass flux, rate of depth, mass and depth, from CF's table; "" where it has none.
_FAMILIES: tuple[tuple[str, ...], ...] = (
    _names("precipitation", "lwe_precipitation_rate", "lwe_thickness_of_precipitation_amount"),
    _names("rainfall", "rainfall_rate", "thickness_of_rainfall_amount"),
    _names("snowfall", "lwe_snowfall_rate", "lwe_thickness_of_snowfall_amount"),
    *(
        (
            f"{kind}_precipitation_flux",
            f"lwe_{kind}_precipitation_rate",
            f"{kind}_precipitation_amount",
            f"lwe_thickness_of_{kind}_precipitation_amount",
        )
        for kind in ("convective", "stratiform", "large_scale")
    ),
    *(
        (
            f"{kind}_rainfall_flux",
            f"{kind}_rainfall_rate",
            f"{kind}_rainfall_amount",
            f"thickness_of_{kind}_rainfall_amount",
        )
        for kind in ("convective", "stratiform", "large_scale")
    ),
    *(
        (
            f"{kind}_snowfall_flux",
            f"lwe_{kind}_snowfall_rate",
            f"{kind}_snowfall_amount",
            f"lwe_thickness_of_{kind}_snowfall_amount",
        )
        for kind in ("convective", "stratiform", "large_scale")
    ),
    (
        "water_evapotranspiration_flux",
        "lwe_water_evaporation_rate",
        "water_evaporation_amount",
        "lwe_thickness_of_water_evaporation_amount",
    ),
    ("runoff_flux", "", "runoff_amount", "lwe_thickness_of_runoff_amount"),
    ("surface_runoff_flux", "", "surface_runoff_amount", "lwe_thickness_of_surface_runoff_amount"),
    ("", "", "surface_snow_amount", "lwe_thickness_of_surface_snow_amount"),
    ("surface_snow_melt_flux", "", "surface_snow_melt_amount", ""),
)
_INTEGRAL = "integral_wrt_time_of_"


def fitting_name(name: str, units: str) -> str | None:
    """The standard name of the same quantity that fits these units; None where CF has none.

    "precipitation_flux" in mm day-1 is "lwe_precipitation_rate", a geopotential in m is a
    geopotential height; other names stay.
    """
    for family in _FAMILIES:
        if name in family:
            fitting = [
                n for n, u in zip(family, _CANONICAL, strict=True) if plainly_convertible(units, u)
            ]
            return next(filter(None, fitting), None)
    if name in ("geopotential", "geopotential_height"):
        return "geopotential" if plainly_convertible(units, "m2 s-2") else "geopotential_height"
    if name.startswith(_INTEGRAL) and plainly_convertible(units, "W m-2"):
        return name.removeprefix(_INTEGRAL)
    return name
