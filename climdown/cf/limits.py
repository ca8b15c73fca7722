"""Physical limits: values that a quantity can never have, by its CF standard name and units.

They are no plausible ranges, beyond which units or fill values are wrong (`cf.quantities`): an
amount of nothing is common, less than nothing is impossible.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from climdown.arrays import Float32
from climdown.cf.recognition import Quantity
from climdown.cf.units import convert_units, units_convertible


@dataclass(frozen=True)
class Limits:
    """What a quantity lies between, in its own units; `high` is infinite for amounts."""

    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether it has an upper limit too, as fractions have."""
        return bool(np.isfinite(self.high))

    def hold(self, values: Float32) -> tuple[Float32, int]:
        """Values within the limits, and how many were not; NaN stays."""
        outside = int(((values < self.low) | (values > self.high)).sum())
        return (np.clip(values, self.low, self.high) if outside else values), outside

    def describe(self, units: str) -> str:
        """One line for people."""
        if not self.bounded:
            return f"never below {self.low:g} {units}"
        return f"{self.low:g} to {self.high:g} {units}"


# Names of what may have either sign, whatever else they say.
_SIGNED = re.compile(
    r"^(tendency_of|change_|difference_|correction_|product_of|covariance_|rate_of_change)"
    r"|_anomaly|(^|_)(net|upward|downward|eastward|northward|westward|southward)(_|$)"
    r"|evapo|sublimation|transpiration|temperature|salt_flux|surface_height"
)
# Shares of a whole.
_FRACTIONS = re.compile(
    r"_area_fraction(_|$)|(^|_)(relative_humidity|albedo|emissivity|transmissivity|absorptivity)(_|$)"
    r"|^(volume|mass|mole)_fraction_of_|^(specific_humidity|cloud_binary_mask)$|_binary_mask$"
    r"|^soil_porosity|^probability_|(^|_)reflectance(_|$)"
)
# Amounts, rates and fluxes of what is there or not, and sizes.
_AMOUNTS = re.compile(
    r"precipitation|rainfall|snowfall|hail|graupel|runoff|drainage|river_discharge|river_channel"
    r"|snow_(amount|thickness|melt|mass|density)|surface_snow|sea_ice_(amount|thickness|mass|extent)"
    r"|(^|_)thickness(_|$)|_depth$|humidity|water_vapor|cloud_(liquid|ice|condensed)|moisture"
    r"|mass_content_of|mass_concentration_of|mole_concentration_of|number_concentration_of"
    r"|mixing_ratio|wind_speed|(^|_)speed(_|$)|wind_gust|(downwelling|upwelling|incoming|outgoing)"
    r"|duration_of|visibility|significant_height|wave_(max|mean)?_?period"
    r"|convective_available_potential_energy|kinetic_energy|leaf_area_index|salinity"
    r"|saturation_deficit|optical|burned_area|lightning"
)
# Of variables without a standard name, by the names that CMIP, ECMWF and others give them.
_BY_NAME = {
    **dict.fromkeys(("prsn", "sf", "snowfall", "prsnc"), "snowfall_flux"),
    **dict.fromkeys(("prc", "cp", "prl", "lsp"), "convective_precipitation_flux"),
    **dict.fromkeys(("mrro", "mrros", "ro", "sro", "ssro", "runoff"), "runoff_flux"),
    **dict.fromkeys(("snw", "swe", "sd"), "surface_snow_amount"),
    **dict.fromkeys(("snd", "sde"), "surface_snow_thickness"),
    **dict.fromkeys(("snm", "smlt"), "surface_snow_melt_flux"),
    **dict.fromkeys(("sic", "siconc", "siconca", "ci", "sici"), "sea_ice_area_fraction"),
    **dict.fromkeys(("sithick", "sit", "sivol"), "sea_ice_thickness"),
    **dict.fromkeys(("clt", "tcc", "cl", "cc", "lcc", "mcc", "hcc"), "cloud_area_fraction"),
    **dict.fromkeys(("snc", "scf"), "surface_snow_area_fraction"),
    **dict.fromkeys(("hursmin", "hursmax"), "relative_humidity"),
    **dict.fromkeys(("sfcwindmax", "wsgsmax", "gust", "fg10", "i10fg", "si100"), "wind_speed"),
    **dict.fromkeys(("rlds", "strd"), "surface_downwelling_longwave_flux_in_air"),
    **dict.fromkeys(("rsus",), "surface_upwelling_shortwave_flux_in_air"),
    **dict.fromkeys(("rlus",), "surface_upwelling_longwave_flux_in_air"),
    **dict.fromkeys(("rsdt", "tisr"), "toa_incoming_shortwave_flux"),
    **dict.fromkeys(("rsut",), "toa_outgoing_shortwave_flux"),
    **dict.fromkeys(("rlut",), "toa_outgoing_longwave_flux"),
    **dict.fromkeys(("prw", "tcwv"), "atmosphere_mass_content_of_water_vapor"),
    **dict.fromkeys(("clwvi", "clivi"), "atmosphere_mass_content_of_cloud_condensed_water"),
    **dict.fromkeys(("mrso", "mrsos", "mrsol"), "mass_content_of_water_in_soil_moisture"),
    **dict.fromkeys(("swvl1", "swvl2", "swvl3", "swvl4"), "volume_fraction_of_water_in_soil"),
    **dict.fromkeys(("sund",), "duration_of_sunshine"),
    **dict.fromkeys(("swh", "hs"), "sea_surface_wave_significant_height"),
    **dict.fromkeys(("cape",), "atmosphere_convective_available_potential_energy"),
    **dict.fromkeys(("zmla", "blh"), "atmosphere_boundary_layer_thickness"),
    **dict.fromkeys(("vpd",), "water_vapor_saturation_deficit_in_air"),
    **dict.fromkeys(("lai",), "leaf_area_index"),
}


def physical_limits(quantity: Quantity) -> Limits | None:
    """What a quantity lies between, in its units; None where nothing is known of it.

    Over ice, relative humidity aloft exceeds 100 % in models and observations alike: only near
    the surface is that its limit.
    """
    name = _standard_name(quantity)
    if name is None or _SIGNED.search(name):
        return None
    if _FRACTIONS.search(name) and units_convertible("1", quantity.units):
        aloft = quantity.level is not None or quantity.named("hur")
        if name == "relative_humidity" and aloft:
            return Limits(0.0, np.inf)
        return Limits(0.0, float(convert_units(np.ones(1), "1", quantity.units)[0]))
    known = _AMOUNTS.search(name) or _FRACTIONS.search(name)
    return Limits(0.0, np.inf) if known else None


def _standard_name(quantity: Quantity) -> str | None:
    if quantity.standard_names:
        return quantity.standard_names[0].split()[0]
    return _BY_NAME.get(quantity.name.lower())
